//! Which snapshots a share has: one listing of the account's shares tells.

use super::account::Account;
use super::http::{Call, Http, Scope};
use super::xml::{self, Part};
use crate::{Error, ErrorKind, RemotePath, Result};
use reqwest::Method;

/// A page of shares.
#[derive(Default)]
pub(super) struct Page {
    /// Names, and the snapshot that each entry is of.
    shares: Vec<(String, Option<String>)>,
    next: Option<String>,
}

/// The ids of the share's snapshots, oldest first. `NotFound`: there is no such share.
pub(super) async fn list(account: Account, share: &str) -> Result<Vec<String>> {
    let root = RemotePath::root();
    let http = Http::new(account, share, &root, None)?;
    let mut found = Vec::new();
    let mut is_there = false;
    let mut marker = None;
    loop {
        let mut call = Call::new(Method::GET, Scope::Account, "snapshots", &root)
            .query("comp", "list")
            .query("include", "snapshots")
            .query("prefix", share);
        if let Some(marker) = marker {
            call = call.query("marker", marker);
        }
        let answer = http.send(&call).await?;
        let page = parse(&answer.body)
            .map_err(|why| Error::new(ErrorKind::Protocol, "snapshots", &root).caused_by(why))?;
        for (_, snapshot) in page.shares.into_iter().filter(|(name, _)| name == share) {
            is_there = true;
            found.extend(snapshot);
        }
        marker = page.next;
        if marker.is_none() {
            break;
        }
    }
    found.sort();
    match is_there {
        true => Ok(found),
        false => Err(Error::new(ErrorKind::NotFound, "snapshots", &root)),
    }
}

pub(super) fn parse(body: &[u8]) -> std::result::Result<Page, String> {
    let mut page = Page::default();
    let mut share = (String::new(), None);
    xml::read(body, |part| {
        let Part::End { above, name, text } = part else { return Ok(()) };
        match (above.len(), name) {
            (3, "Name") => share.0 = text,
            (3, "Snapshot") => share.1 = Some(text),
            (2, "Share") => page.shares.push(std::mem::take(&mut share)),
            (1, "NextMarker") => page.next = Some(text).filter(|next| !next.is_empty()),
            _ => {}
        }
        Ok(())
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_their_snapshots_are_told_apart() {
        let page = "<EnumerationResults><Prefix>docs</Prefix><Shares><Share><Name>docs</Name>\
            <Snapshot>2026-01-02T03:04:05.0000000Z</Snapshot><Properties><Quota>1</Quota>\
            </Properties></Share><Share><Name>docs</Name><Properties /></Share></Shares>\
            <NextMarker>m</NextMarker></EnumerationResults>";
        let read = parse(page.as_bytes()).unwrap();
        let time = "2026-01-02T03:04:05.0000000Z".to_string();
        assert_eq!(read.shares, [("docs".into(), Some(time)), ("docs".into(), None)]);
        assert_eq!(read.next.as_deref(), Some("m"));
        assert!(parse(&page.as_bytes()[..page.len() - 5]).is_err());
    }
}
