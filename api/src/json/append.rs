//! `AppendInput` in JSON, straight into the bytes of a batch.

use model::Batch;

use crate::AppendConditions;
use crate::negotiate::Format;
use crate::status::ApiError;

/// Decodes an `AppendInput`.
///
/// # Errors
/// 400 `bad_json` when it is not one; 422 `invalid` when it breaks a limit or is not base64 although it should be.
pub fn append_input(body: &[u8], format: Format) -> Result<(Batch, AppendConditions), ApiError> {
    todo!("{body:?} {format:?}")
}
