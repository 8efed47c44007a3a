//! Client-key encryption (s2-wire.md 4.11): seals records before they leave the front, opens them on their way out.
//!
//! A key lives as long as its request. It is never stored, logged or shown; [`Sealer`] has no way to give it back, and
//! wipes it at its end. Shards and disks see sealed records only (`model::sealed`). The envelope of a record is
//! `nonce | ciphertext | tag`, the nonce from the system's randomness; what it is bound to stands at [`Sealer::bind`].

use std::fmt;

use aegis::aegis256::Aegis256;
use api::json::cipher_name;
use api::{ApiError, Code};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::event::{ReadBatch, Target};
use http::HeaderMap;
use model::config::Cipher;
use model::sealed::{self, NotOpened};
use model::{Batch, Failure, StreamId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Checks the length of `s2-encryption-key`, which holds whether or not the stream has a cipher.
///
/// # Errors
/// 400 `bad_header`.
pub(crate) fn check_header(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(HEADER) {
        None => Ok(()),
        Some(key) if (1..=HEADER_BYTES_MAX).contains(&key.as_bytes().trim_ascii().len()) => Ok(()),
        Some(_) => Err(bad_header("expected 1 to 44 characters")),
    }
}

/// Whether a key came along, or what is called one.
pub(crate) fn has_key(headers: &HeaderMap) -> bool {
    headers.contains_key(HEADER)
}

/// What a request needs for a stream with this cipher; nothing for one without, whatever the header says.
///
/// # Errors
/// 400 `bad_header` when the key is missing or is none.
pub(crate) fn sealer(
    headers: &HeaderMap,
    cipher: Option<Cipher>,
    target: &Target,
    stream: StreamId,
) -> Result<Option<Sealer>, ApiError> {
    let Some(cipher) = cipher else { return Ok(None) };
    let Some(given) = headers.get(HEADER) else {
        let message = format!("missing encryption key for stream cipher '{}'", cipher_name(cipher));
        return Err(ApiError::new(Code::BadHeader, message));
    };
    Sealer::new(cipher, given.as_bytes(), target, stream).map(Some)
}

/// Seals and opens the records of one stream with one key.
pub(crate) struct Sealer {
    key: Key,
    /// What an envelope is bound to, but for the record's metered size.
    stream: Vec<u8>,
}

enum Key {
    Aegis(Zeroizing<[u8; KEY_BYTES]>),
    Gcm(Box<LessSafeKey>),
}

impl Sealer {
    /// Takes the text of the key.
    ///
    /// # Errors
    /// 400 `bad_header` when it is not base64 of 32 bytes. The message does not repeat it.
    pub(crate) fn new(cipher: Cipher, text: &[u8], target: &Target, stream: StreamId) -> Result<Self, ApiError> {
        let raw = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
        let raw = raw.map_err(|_| bad_header("invalid Base64 encoding"))?;
        let raw: &[u8; KEY_BYTES] =
            raw.as_slice().try_into().map_err(|_| bad_header("expected the Base64 encoding of 32 bytes"))?;
        let key = match cipher {
            Cipher::Aegis256 => Key::Aegis(Zeroizing::new(*raw)),
            Cipher::Aes256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, raw).expect("a key of AES-256 has 32 bytes");
                Key::Gcm(Box::new(LessSafeKey::new(key)))
            }
        };
        Ok(Self { key, stream: identity(cipher, target, stream) })
    }

    const fn cipher(&self) -> Cipher {
        match self.key {
            Key::Aegis(_) => Cipher::Aegis256,
            Key::Gcm(_) => Cipher::Aes256Gcm,
        }
    }

    const fn nonce_bytes(&self) -> usize {
        match self.key {
            Key::Aegis(_) => AEGIS_NONCE_BYTES,
            Key::Gcm(_) => GCM_NONCE_BYTES,
        }
    }

    /// The batch with its ordinary records sealed.
    ///
    /// # Errors
    /// 500 `other` when the system has no randomness; nothing was appended.
    pub(crate) fn seal(&self, batch: &Batch) -> Result<Batch, ApiError> {
        // One call for all nonces: it enters the kernel.
        let mut nonces = vec![0; batch.records().len() * self.nonce_bytes()];
        SystemRandom::new()
            .fill(&mut nonces)
            .map_err(|_| ApiError::new(Code::Other, "the system gives no random bytes to encrypt with"))?;
        let mut nonces = nonces.chunks_exact(self.nonce_bytes());
        let envelope_bytes = self.nonce_bytes() + TAG_BYTES;
        sealed::seal(batch, self.cipher(), envelope_bytes, |metered_bytes, clear, out| {
            let nonce = nonces.next().expect("a nonce for each record");
            out.extend_from_slice(nonce);
            let start = out.len();
            out.extend_from_slice(clear);
            let tag = self.encrypt(nonce, &self.bind(metered_bytes), &mut out[start..]);
            out.extend_from_slice(&tag);
            Ok(())
        })
    }

    /// The batch with its records opened.
    ///
    /// # Errors
    /// 400 `decryption_failed` when the key is another one; 503 when what is stored is damaged.
    pub(crate) fn open(&self, batch: &ReadBatch) -> Result<ReadBatch, ApiError> {
        let runs: Result<Vec<Bytes>, ApiError> = batch.runs.iter().map(|run| self.open_run(run)).collect();
        let ReadBatch { records_count, metered_bytes, last, .. } = *batch;
        Ok(ReadBatch { runs: runs?, records_count, metered_bytes, last })
    }

    fn open_run(&self, run: &[u8]) -> Result<Bytes, ApiError> {
        let opened = sealed::open(run, |metered_bytes, envelope, out| {
            let (nonce, rest) = envelope.split_at_checked(self.nonce_bytes()).ok_or(())?;
            let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(())?;
            out.extend_from_slice(ciphertext);
            self.decrypt(nonce, &self.bind(metered_bytes), out, tag)
        });
        match opened {
            Ok(run) => Ok(Bytes::from(run)),
            Err(NotOpened::Refused(())) => Err(ApiError::new(Code::DecryptionFailed, "record decryption failed")),
            Err(NotOpened::Malformed) => {
                let what = "a stream with a cipher has a record that is not sealed, or damaged";
                tracing::error!("{what}");
                Err(Failure::Corrupt(what.into()).into())
            }
        }
    }

    /// The associated data of a record: it opens only in the stream it was sealed for, with the size it was sealed with.
    fn bind(&self, metered_bytes: u32) -> Vec<u8> {
        [&self.stream[..], &metered_bytes.to_le_bytes()].concat()
    }

    fn encrypt(&self, nonce: &[u8], bound: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        match &self.key {
            Key::Aegis(key) => {
                Aegis256::<TAG_BYTES>::new(key, nonce.try_into().expect("sized above")).encrypt_in_place(text, bound)
            }
            Key::Gcm(key) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).expect("sized above");
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(bound), text).expect("a record is small");
                tag.as_ref().try_into().expect("a tag has 16 bytes")
            }
        }
    }

    fn decrypt(&self, nonce: &[u8], bound: &[u8], text: &mut Vec<u8>, tag: &[u8; TAG_BYTES]) -> Result<(), ()> {
        match &self.key {
            Key::Aegis(key) => {
                let nonce = nonce.try_into().expect("sized above");
                Aegis256::<TAG_BYTES>::new(key, nonce).decrypt_in_place(text, tag, bound).map_err(|_| ())
            }
            Key::Gcm(key) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).expect("sized above");
                text.extend_from_slice(tag);
                key.open_in_place(nonce, Aad::from(bound), text).map_err(|_| ())?;
                text.truncate(text.len() - TAG_BYTES);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({}, key not shown)", cipher_name(self.cipher()))
    }
}

/// What makes a stream this stream and no other, for ever: names, and the id of its incarnation (docs/format.md).
fn identity(cipher: Cipher, target: &Target, stream: StreamId) -> Vec<u8> {
    let mut identity = b"millrace record 1\0".to_vec();
    for part in [cipher_name(cipher), target.basin.as_str(), target.stream.as_str()] {
        identity.extend_from_slice(&u32::try_from(part.len()).expect("names are short").to_le_bytes());
        identity.extend_from_slice(part.as_bytes());
    }
    identity.extend_from_slice(&target.basin_id.0.to_le_bytes());
    identity.extend_from_slice(&stream.0.to_le_bytes());
    identity
}

fn bad_header(why: &str) -> ApiError {
    ApiError::new(Code::BadHeader, format!("Invalid header `{HEADER}`: {why}"))
}

const HEADER: &str = "s2-encryption-key";
/// Base64 of 32 bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 44;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const AEGIS_NONCE_BYTES: usize = 32;
const GCM_NONCE_BYTES: usize = 12;

#[cfg(test)]
#[path = "encryption_tests.rs"]
mod tests;
