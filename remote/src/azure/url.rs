//! Percent escapes: what goes into a URL is what was signed, byte for byte.

use std::fmt::Write;

/// Escapes everything but what never needs it.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => write!(text, "%{byte:02X}").expect("a string takes all text"),
        }
    }
    text
}

/// Undoes escapes; `None` where one is broken or the result is no text. A `+` is a plus.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Names and values as they stand in a URL.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&encode(name.as_bytes()));
        text.push('=');
        text.push_str(&encode(value.as_bytes()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let odd = "a b/r\u{e9}sum\u{e9}%+~.txt";
        assert_eq!(encode(odd.as_bytes()), "a%20b%2Fr%C3%A9sum%C3%A9%25%2B~.txt");
        assert_eq!(decode(&encode(odd.as_bytes())).unwrap(), odd);
        assert_eq!(decode("a+b").unwrap(), "a+b");
        for broken in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(query([("a", "1,2"), ("b", "")]), "a=1%2C2&b=");
    }
}
