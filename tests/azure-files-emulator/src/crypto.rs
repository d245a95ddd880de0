//! The few things of cryptography that the protocol is made of.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::sync::atomic::{AtomicU64, Ordering};

/// HMAC-SHA256 as bytes.
pub fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// HMAC-SHA256 as the protocol writes it.
pub fn sign(key: &[u8], message: &str) -> String {
    base64(&hmac(key, message))
}

/// Standard base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Undoes standard base64.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The base64 of tokens and markers.
pub fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Undoes the base64 of tokens and markers.
pub fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// MD5 of all parts, as base64.
pub fn md5<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    base64(&md5.finalize())
}

/// The service's CRC-64: polynomial 0x9A6C9329AC4BC9B5, reflected, inverted before and after.
pub fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = !0u64;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x9A6C_9329_AC4B_C9B5 } else { crc >> 1 };
        }
    }
    !crc
}

/// A GUID that this process did not give before.
pub fn guid() -> String {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = format!("{number} {} {:?}", std::process::id(), since.unwrap_or_default());
    let hash = hmac(b"guid", &seed);
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let (third, fourth) = (&hex[13..16], &hex[17..20]);
    format!("{}-{}-4{third}-8{fourth}-{}", &hex[..8], &hex[8..12], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_protocols() {
        assert_eq!(md5([&b"hel"[..], b"lo"]), "XUFAKrxLKna5cZ2REBfFkg==");
        // The catalogue's check value of CRC-64/NVME, which is the same polynomial.
        assert_eq!(crc64(b"123456789"), 0xAE8B_1486_0A79_9888);
    }

    #[test]
    fn guids_look_like_guids_and_differ() {
        let (one, other) = (guid(), guid());
        assert_ne!(one, other);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
