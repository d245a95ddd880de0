//! Text for people: names that cannot drive the terminal, counts, aligned numbers.

use std::fmt::{self, Write};
use std::io::{self, Write as _};

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => { $crate::text::print(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

/// Prints; where nobody reads any more (`covefs why PATH | head -1`), ends as other programs do.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        // 128 + SIGPIPE
        std::process::exit(141);
    }
}

/// The text with control characters written out, so that a file name cannot move the cursor or
/// colour the screen (U7).
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            symbol if symbol.is_control() || is_invisible(symbol) => {
                let code = u32::from(symbol);
                let shape = if code < 0x100 {
                    format!("\\x{code:02x}")
                } else {
                    format!("\\u{{{code:x}}}")
                };
                out.push_str(&shape);
            }
            symbol => out.push(symbol),
        }
    }
    out
}

/// Marks that turn the direction of the text around them: they can make `exe.txt` of `txt.exe`.
fn is_invisible(symbol: char) -> bool {
    matches!(symbol, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name of any bytes for people: bytes that are no UTF-8 are written out too.
pub(crate) fn escaped_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escaped(chunk.valid()));
        for byte in chunk.invalid() {
            // A String takes every write.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `1 file`, `1,204 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// `1,204,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(escaped("a\x1b[2Jb\n"), "a\\x1b[2Jb\\n");
        assert_eq!(escaped("caf\u{e9} \u{9b}"), "caf\u{e9} \\x9b");
        assert_eq!(escaped("\u{202e}txt"), "\\u{202e}txt");
        assert_eq!(escaped_bytes(b"ok\xff\x07"), "ok\\xff\\x07");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1_204_000, "file"), "1,204,000 files");
    }
}
