//! `LeaseService` (docs/leases.md).

use api::grpc::status::{Status, StatusCode};
use api::grpc::{decode, v1alpha};
use bytes::Bytes;
use engine::event::LeaseInfo;
use model::token::Operation;
use v1alpha::error_detail::Cause;
use v1alpha::{AcquireRequest, InspectRequest, ReleaseRequest, RenewRequest};

use super::refused::Refused;
use super::{Call, Reply};
use crate::resource::leases::{Outcome, Wanted, ask, held_message, lost_message};

impl Call<'_> {
    pub(super) async fn acquire_lease(&self, message: Bytes) -> Result<Reply, Refused> {
        let AcquireRequest { stream, holder, duration_ms, wait_ms } = decode(message)?;
        self.lease(&[Operation::Fence], &stream, Wanted::acquire(&holder, duration_ms, wait_ms)?).await
    }

    pub(super) async fn renew_lease(&self, message: Bytes) -> Result<Reply, Refused> {
        let RenewRequest { stream, token, duration_ms } = decode(message)?;
        self.lease(&[Operation::Fence], &stream, Wanted::renew(&token, duration_ms)?).await
    }

    pub(super) async fn release_lease(&self, message: Bytes) -> Result<Reply, Refused> {
        let ReleaseRequest { stream, token } = decode(message)?;
        self.lease(&[Operation::Fence], &stream, Wanted::release(&token)?).await
    }

    pub(super) async fn inspect_lease(&self, message: Bytes) -> Result<Reply, Refused> {
        let InspectRequest { stream } = decode(message)?;
        self.lease(&[Operation::CheckTail, Operation::Fence], &stream, Wanted::Inspect).await
    }

    async fn lease(&self, operations: &[Operation], stream: &str, wanted: Wanted) -> Result<Reply, Refused> {
        let name = self.stream(stream)?;
        let basin = self.basin(operations, Some(&name))?;
        match ask(self.front, &basin, name.clone(), wanted).await? {
            Outcome::Acquired(lease, token) => Ok(Reply::of(&v1alpha::AcquireResponse {
                lease: Some(shown(&lease)),
                token: token.as_str().to_owned(),
            })),
            Outcome::Renewed(lease) => Ok(Reply::of(&v1alpha::RenewResponse { lease: Some(shown(&lease)) })),
            Outcome::Released => Ok(Reply::of(&v1alpha::ReleaseResponse {})),
            Outcome::Seen(lease) => Ok(Reply::of(&v1alpha::InspectResponse { lease: lease.as_ref().map(shown) })),
            Outcome::Held(lease) => {
                let status = Status::new(StatusCode::FailedPrecondition, "lease_held", held_message(&name, &lease));
                Err(Refused { status: status.because(Cause::LeaseHeld(shown(&lease))), http_status: 409 })
            }
            Outcome::Lost => {
                let status = Status::new(StatusCode::FailedPrecondition, "lease_lost", lost_message(&name));
                Err(Refused { status, http_status: 409 })
            }
        }
    }
}

fn shown(lease: &LeaseInfo) -> v1alpha::Lease {
    v1alpha::Lease {
        holder: lease.holder.as_str().to_owned(),
        generation: lease.generation,
        duration_ms: lease.duration.as_ms().into(),
        expires_in_ms: lease.expires_in_ms,
    }
}
