//! Secrets of access tokens: made here, shown once, and known by their hash from then on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::SecretHash;
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};

/// What all secrets begin with, so that people and scanners know what they have found.
const PREFIX: &str = "mr_";
/// Random bytes of a secret.
const RANDOM_BYTES: usize = 32;
/// Characters of a secret.
const SECRET_CHARS: usize = PREFIX.len() + (RANDOM_BYTES * 8).div_ceil(6);

/// A secret that nobody has. Deliberately neither `Debug` nor `Display`.
pub(crate) struct Secret(String);

impl Secret {
    /// Made of 256 bits of the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub(crate) fn new() -> Result<Self, &'static str> {
        let mut random = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| "the system gave no random bytes")?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text that the client sends from now on.
    #[must_use]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept.
    #[must_use]
    pub(crate) fn hash(&self) -> SecretHash {
        hash(self.0.as_bytes())
    }
}

/// SHA-256.
#[must_use]
pub(crate) fn hash(secret: &[u8]) -> SecretHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    SecretHash(hash)
}

/// Whether it has the form of a secret that we made.
#[must_use]
pub(crate) fn looks_like_ours(secret: &[u8]) -> bool {
    secret.len() == SECRET_CHARS && secret.starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_new_and_looks_like_ours() {
        let (one, other) = (Secret::new().expect("random"), Secret::new().expect("random"));
        assert!(one.reveal() != other.reveal() && one.hash() != other.hash());
        assert!(looks_like_ours(one.reveal().as_bytes()), "{}", one.reveal().len());
        assert!(!looks_like_ours(b"any") && !looks_like_ours(b"") && !looks_like_ours(&[b'x'; SECRET_CHARS]));
    }

    #[test]
    fn the_hash_is_sha_256() {
        let hex: String = hash(b"abc").0.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
