//! A page of a directory as the service sends it: XML to entries.

use super::facts::{self, Facts, Shape};
use super::xml::{self, Part};
use super::{time, url};
use crate::{RemotePath, Timestamp};
use reqwest::header::HeaderValue;

/// One page.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<(Vec<u8>, Facts)>,
    /// The number of the directory itself.
    pub(super) dir_id: Option<u64>,
    pub(super) next: Option<String>,
}

/// An entry as far as it was read.
#[derive(Default)]
struct Draft {
    name: String,
    is_encoded: bool,
    texts: Vec<(String, String)>,
}

/// Reads a page; `asked` is when the service sent it. `Err` says what makes no sense.
pub(super) fn parse(body: &[u8], asked: Option<Timestamp>) -> Result<Listing, String> {
    let mut page = Listing::default();
    let mut draft = Draft::default();
    xml::read(body, |part| {
        match part {
            Part::Begin { above, name, is_encoded } => {
                if is_entry(above, name) {
                    draft = Draft::default();
                }
                if name == "Name" {
                    draft.is_encoded = is_encoded;
                }
            }
            Part::End { above, name, text } => {
                close(&mut page, &mut draft, above, name, text, asked)?;
            }
        }
        Ok(())
    })?;
    Ok(page)
}

/// Whether an element of this name, in these, begins an entry.
fn is_entry(open: &[String], name: &str) -> bool {
    open.last().is_some_and(|above| above == "Entries") && matches!(name, "File" | "Directory")
}

fn close(
    page: &mut Listing,
    draft: &mut Draft,
    open: &[String],
    name: &str,
    value: String,
    asked: Option<Timestamp>,
) -> Result<(), String> {
    if is_entry(open, name) {
        let shape = if name == "File" { Shape::File } else { Shape::Dir };
        page.entries.push(std::mem::take(draft).finished(shape, asked)?);
        return Ok(());
    }
    match (open.len(), name) {
        (1, "DirectoryId") => page.dir_id = value.parse().ok(),
        (1, "NextMarker") => page.next = Some(value).filter(|marker| !marker.is_empty()),
        (3, "Name") => draft.name = value,
        (3 | 4, _) => draft.texts.push((name.to_string(), value)),
        _ => {}
    }
    Ok(())
}

impl Draft {
    fn finished(self, shape: Shape, asked: Option<Timestamp>) -> Result<(Vec<u8>, Facts), String> {
        let text = |name: &str| {
            self.texts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let missing = |name: &str| format!("the listing says no {name} of an entry");
        let need = |name: &str| text(name).ok_or_else(|| missing(name));
        let time = |name: &str| text(name).and_then(time::parse_iso);
        let name = match self.is_encoded {
            true => url::decode(&self.name).ok_or("a listed name makes no sense")?,
            false => self.name.clone(),
        };
        if !RemotePath::is_name(name.as_bytes()) {
            return Err(format!("the listed name {name:?} makes no sense"));
        }
        let mtime = time("LastWriteTime").ok_or_else(|| missing("LastWriteTime"))?;
        let size = match shape {
            Shape::File => need("Content-Length")?.parse().map_err(|_| missing("size"))?,
            Shape::Dir => 0,
        };
        let facts = Facts {
            shape,
            file_id: need("FileId")?.parse().map_err(|_| missing("number"))?,
            size,
            etag: facts::etag(need("Etag")?),
            attributes: facts::attributes(text("Attributes").unwrap_or_default()),
            mtime,
            ctime: time("ChangeTime").unwrap_or(mtime),
            btime: time("CreationTime").unwrap_or(mtime),
            atime: time("LastAccessTime"),
            permission_key: text("PermissionKey").and_then(|key| HeaderValue::from_str(key).ok()),
            pairs: Vec::new(),
            content_headers: Vec::new(),
            is_leased: false,
            asked,
        };
        Ok((name.into_bytes(), facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const PAGE: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
        ServiceEndpoint=\"https://a.file.core.windows.net/\" ShareName=\"docs\" \
        DirectoryPath=\"\"><Prefix /><Marker /><DirectoryId>13835128424026341376</DirectoryId>\
        <Entries><File><Name>a &amp; b&#x41; </Name><FileId>9</FileId><Properties>\
        <Content-Length>7</Content-Length><CreationTime>2021-02-03T04:05:05.0000000Z</CreationTime>\
        <LastAccessTime>2021-02-03T04:05:07.0000000Z</LastAccessTime>\
        <LastWriteTime>2021-02-03T04:05:06.7654321Z</LastWriteTime>\
        <ChangeTime>2021-02-03T04:05:08.0000000Z</ChangeTime>\
        <Last-Modified>Wed, 03 Feb 2021 04:05:06 GMT</Last-Modified><Etag>\"0x1\"</Etag>\
        <New>1</New></Properties><Attributes>Archive | ReadOnly</Attributes>\
        <PermissionKey>1*2</PermissionKey></File>\
        <Directory><Name Encoded=\"true\">%EF%BF%BFd</Name><FileId>10</FileId><Properties>\
        <LastWriteTime>2021-02-03T04:05:06.0000000Z</LastWriteTime><Etag>\"0x2\"</Etag>\
        </Properties></Directory></Entries><NextMarker>m&lt;1</NextMarker></EnumerationResults>";

    #[test]
    fn a_page_is_read_whole() {
        let page = parse(PAGE.as_bytes(), None).unwrap();
        assert_eq!(
            (page.dir_id, page.next.as_deref()),
            (Some(13_835_128_424_026_341_376), Some("m<1"))
        );
        let [(name, file), (dir_name, dir)] = &page.entries[..] else { panic!("not two") };
        assert_eq!((&name[..], &dir_name[..]), (&b"a & bA "[..], "\u{ffff}d".as_bytes()));
        assert_eq!((file.shape, file.file_id, file.size), (Shape::File, 9, 7));
        assert_eq!((file.mtime.nanos, file.etag), (765_432_100, facts::etag("\"0x1\"")));
        assert!(file.has("ReadOnly") && file.ctime > file.mtime && file.atime > Some(file.mtime));
        assert_eq!((dir.shape, dir.file_id, dir.ctime), (Shape::Dir, 10, dir.mtime));
    }

    #[test]
    fn an_empty_last_page() {
        let page =
            parse(b"<EnumerationResults><Entries /><NextMarker /></EnumerationResults>", None);
        let page = page.unwrap();
        assert!(page.entries.is_empty() && page.next.is_none() && page.dir_id.is_none());
    }

    #[test]
    fn half_a_page_is_no_page() {
        // rule X1: what a cut listing leaves out is not gone.
        for cut in (0..PAGE.len()).filter(|cut| PAGE.is_char_boundary(*cut)).skip(80) {
            let cut = &PAGE.as_bytes()[..cut];
            assert!(parse(cut, None).is_err(), "{}", String::from_utf8_lossy(cut));
        }
        for wrong in
            ["<FileId>9</FileId>", "<Etag>\"0x1\"</Etag>", "<Content-Length>7</Content-Length>"]
        {
            assert!(parse(PAGE.replacen(wrong, "", 1).as_bytes(), None).is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Whatever arrives in its place is a page or an error.
        #[test]
        fn a_damaged_page_is_no_panic(at in 0..PAGE.len(), byte: u8, cut in 0..PAGE.len()) {
            let mut body = PAGE.as_bytes().to_vec();
            body[at] = byte;
            let _ = parse(&body, None);
            let _ = parse(&body[..cut], None);
            let _ = xml::number(&body, "FileId");
        }

        #[test]
        fn any_bytes_are_no_panic(body in vec(any::<u8>(), 0..300), text: String) {
            let _ = parse(&body, None);
            let _ = parse(format!("<EnumerationResults><Entries><File><Name>{text}").as_bytes(), None);
            let _ = (time::parse_iso(&text), time::parse_http(&text), facts::etag(&text), facts::attributes(&text));
        }
    }
}
