//! The service's answers in XML: elements in their order.
//!
//! What nobody here knows is passed over; absent and empty elements are the same. An answer that is
//! cut off is an error, however much of it was read (X1).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Something that was read. `above` are the elements that it stands in.
pub(super) enum Part<'a> {
    /// An element begins.
    Begin { above: &'a [String], name: &'a str, is_encoded: bool },
    /// It ends; `text` is what stood in it last.
    End { above: &'a [String], name: &'a str, text: String },
}

/// Hands all elements of an answer to `take`. `Err` says what makes no sense.
pub(super) fn read(
    body: &[u8],
    mut take: impl FnMut(Part<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_err(|_| "the answer is no text".to_string())?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut value = String::new();
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                let name = String::from(start.name().as_ref());
                let is_encoded = is_encoded(&start);
                take(Part::Begin { above: &open, name: &name, is_encoded })?;
                open.push(name);
                value.clear();
            }
            Event::Text(part) => value.push_str(&part),
            Event::CData(part) => value.push_str(&part),
            Event::GeneralRef(name) => {
                value.push(resolved(&name).ok_or_else(|| format!("&{}; is unknown", &*name))?);
            }
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                let text = std::mem::take(&mut value);
                take(Part::End { above: &open, name: &name, text })?;
            }
            Event::Eof if open.is_empty() => return Ok(()),
            Event::Eof => return Err("the answer is cut off".into()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err("an answer has no document type".into()),
        }
    }
}

/// Whether a name is escaped, because XML cannot hold it.
fn is_encoded(start: &BytesStart<'_>) -> bool {
    let mut attributes = start.attributes().flatten();
    attributes
        .any(|attribute| attribute.key.as_ref() == "Encoded" && attribute.value.as_ref() == "true")
}

/// The number in the first element of this name of any answer.
pub(super) fn number(body: &[u8], element: &str) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    rest.split_once('<')?.0.trim().parse().ok()
}

/// The character that a reference stands for.
fn resolved(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}
