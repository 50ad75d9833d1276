//! What keeps contact data out of places where it does not belong.
//!
//! Keys of the identity index, `sent` hashes and event ids are keyed with one secret, so that none of them can be
//! guessed back from what our topics and disks hold. Values of contacts and credentials have types that do not print.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A credential or key. Never printed, never serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Hashes under the installation's secret. Each use names its purpose, so that equal texts in two uses do not match.
#[derive(Clone)]
pub struct Hasher(Hmac<Sha256>);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// HMAC-SHA-256 over `purpose` and `parts`, each with its length before it, truncated to 128 bits.
    pub fn hash128(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.0.clone();
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        digest.first_chunk().copied().expect("SHA-256 has more than 16 bytes")
    }

    /// As [`Hasher::hash128`], truncated to 64 bits.
    pub fn hash64(&self, purpose: &str, parts: &[&[u8]]) -> u64 {
        let hash = self.hash128(purpose, parts);
        u64::from_be_bytes(hash.first_chunk().copied().expect("16 bytes hold 8"))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 0xf)]);
    }
    text
}
