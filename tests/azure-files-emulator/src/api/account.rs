//! The account: its list of shares, its service's properties, keys for delegation.

use super::Context;
use super::list::{echo, marker, page_entries};
use crate::auth::token;
use crate::call::{Call, Metadata, Reply};
use crate::crypto;
use crate::error::{Error, Result};
use crate::store::{Share, ShareLease};
use crate::time::Ticks;
use crate::xml::{Element, Xml};
use std::ops::Bound;

const CORS_RULES_MAX: usize = 5;

#[derive(Clone, Copy)]
struct Include {
    metadata: bool,
    snapshots: bool,
    deleted: bool,
}

/// A line of the list: a share as it is, as it was in a snapshot, or deleted.
struct Row<'a> {
    share: &'a Share,
    snapshot: Option<&'a str>,
    deleted: bool,
    stamp: Ticks,
    lease: &'a ShareLease,
    metadata: &'a Metadata,
}

/// List Shares.
pub fn list_shares(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let most = page_entries(call, context.config.page_entries_max)?;
    let words: Vec<&str> = call.query("include").unwrap_or_default().split(',').collect();
    let asked = |word: &str| words.iter().any(|asked| asked.trim().eq_ignore_ascii_case(word));
    let [metadata, snapshots, deleted] = ["metadata", "snapshots", "deleted"].map(asked);
    let include = Include { metadata, snapshots, deleted };
    let prefix = call.query("prefix").unwrap_or_default();
    let start = marker(call)?.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = rows(context, include);
    let mut rest = rows.range((start, Bound::Unbounded)).filter(|(key, _)| key.starts_with(prefix));
    let mut xml = Xml::new("EnumerationResults", &[("ServiceEndpoint", &context.endpoint())]);
    if !prefix.is_empty() {
        xml.element("Prefix", prefix);
    }
    echo(&mut xml, call);
    xml.open("Shares");
    let mut last = "";
    for _ in 0..most {
        let Some((key, row)) = rest.next() else { break };
        write_share(&mut xml, key, row, include, context.clock.now());
        last = key;
    }
    xml.close();
    let more = rest.next().is_some();
    xml.element(
        "NextMarker",
        &if more { crypto::base64_url(last.as_bytes()) } else { String::new() },
    );
    Ok(Reply::xml(200, xml))
}

/// All lines by a key that sorts as the service does: by name, snapshots before the share itself.
fn rows<'a>(
    context: &'a Context<'_>,
    include: Include,
) -> std::collections::BTreeMap<String, Row<'a>> {
    let mut rows = std::collections::BTreeMap::new();
    let row = |share: &'a Share, deleted| Row {
        share,
        snapshot: None,
        deleted,
        stamp: share.stamp,
        lease: &share.lease,
        metadata: &share.metadata,
    };
    for (name, share) in &context.store.shares {
        for (id, snapshot) in share.snapshots.iter().filter(|_| include.snapshots) {
            let (stamp, lease, metadata) = (snapshot.stamp, &snapshot.lease, &snapshot.metadata);
            let then = Row { snapshot: Some(id), stamp, lease, metadata, ..row(share, false) };
            rows.insert(format!("{name} {id}"), then);
        }
        rows.insert(format!("{name} ~"), row(share, false));
    }
    for (name, share) in context.store.deleted.iter().filter(|_| include.deleted) {
        rows.insert(format!("{name} ~{}", share.stamp.etag()), row(share, true));
    }
    rows
}

fn write_share(xml: &mut Xml, key: &str, row: &Row<'_>, include: Include, now: Ticks) {
    let share = row.share;
    xml.open("Share");
    xml.element("Name", key.split(' ').next().unwrap_or_default());
    if let Some(id) = row.snapshot {
        xml.element("Snapshot", id);
    }
    if row.deleted {
        xml.element("Deleted", "true");
        xml.element("Version", &share.stamp.etag());
    }
    xml.open("Properties");
    xml.element("Last-Modified", &row.stamp.rfc1123());
    xml.element("Etag", &format!("\"{}\"", row.stamp.etag()));
    xml.element("Quota", &share.quota.to_string());
    let (status, state, duration) = row.lease.texts(now);
    xml.element("LeaseStatus", status);
    xml.element("LeaseState", state);
    if let Some(duration) = duration {
        xml.element("LeaseDuration", duration);
    }
    xml.element("AccessTier", &share.tier);
    xml.element("AccessTierChangeTime", &share.tier_changed.rfc1123());
    xml.element("EnabledProtocols", &share.protocols);
    if let Some(squash) = &share.root_squash {
        xml.element("RootSquash", squash);
    }
    if row.deleted {
        xml.element("DeletedTime", &row.stamp.rfc1123());
        xml.element("RemainingRetentionDays", "7");
    }
    xml.close();
    if include.metadata {
        xml.open("Metadata");
        for (name, value) in row.metadata {
            xml.element(name, value);
        }
        xml.close();
    }
    xml.close();
}

/// Get File Service Properties.
pub fn get_service_properties(context: &mut Context<'_>) -> Result<Reply> {
    let mut xml = Xml::new("StorageServiceProperties", &[]);
    let stored = context.store.service_properties.as_ref();
    for name in ["HourMetrics", "MinuteMetrics", "Cors", "ProtocolSettings"] {
        match stored.and_then(|stored| stored.child(name)) {
            Some(element) => element.write(&mut xml),
            None if name.ends_with("Metrics") => xml.raw(&format!(
                "<{name}><Version>1.0</Version><Enabled>false</Enabled>\
                 <RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></{name}>"
            )),
            None if name == "Cors" => xml.element(name, ""),
            None => {}
        }
    }
    Ok(Reply::xml(200, xml))
}

/// Set File Service Properties: what is not sent stays.
pub fn set_service_properties(context: &mut Context<'_>) -> Result<Reply> {
    let sent = Element::parse(&context.call.body, "StorageServiceProperties")?;
    let rules = sent.child("Cors").map_or(0, |cors| cors.children.len());
    if rules > CORS_RULES_MAX {
        return Err(Error::new("InvalidXmlDocument"));
    }
    let stored = context.store.service_properties.get_or_insert_default();
    for element in sent.children {
        stored.children.retain(|old| old.name != element.name);
        stored.children.push(element);
    }
    Ok(Reply::new(202))
}

/// Get User Delegation Key: for those who came with a token.
pub fn get_user_delegation_key(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let bearer = call.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
    let now = context.clock.now();
    let claims = bearer.and_then(|text| token::check(context.account, text, now).ok());
    let claims = claims.ok_or_else(|| Error::new("AuthorizationFailure"))?;
    let info = Element::parse(&call.body, "KeyInfo")?;
    let expiry = time_of(&info, "Expiry")?.ok_or_else(|| Error::new("MissingRequiredXmlNode"))?;
    let start = time_of(&info, "Start")?.unwrap_or(now);
    let seconds = |time: Ticks| format!("{}Z", &time.iso()[..19]);
    let parts = [
        ("skoid", "SignedOid", claims["oid"].as_str().unwrap_or_default().to_owned()),
        ("sktid", "SignedTid", claims["tid"].as_str().unwrap_or_default().to_owned()),
        ("skt", "SignedStart", seconds(start)),
        ("ske", "SignedExpiry", seconds(expiry)),
        ("sks", "SignedService", "f".to_owned()),
        ("skv", "SignedVersion", version(call)),
    ];
    let value = |name: &str| {
        parts.iter().find(|(part, _, _)| *part == name).map_or(String::new(), |part| part.2.clone())
    };
    let key = token::delegation_key(context.account, value);
    let mut xml = Xml::new("UserDelegationKey", &[]);
    for (_, name, value) in &parts {
        xml.element(name, value);
    }
    xml.element("Value", &crypto::base64(&key));
    Ok(Reply::xml(200, xml))
}

fn version(call: &Call) -> String {
    call.header("x-ms-version").unwrap_or_default().to_owned()
}

fn time_of(info: &Element, name: &str) -> Result<Option<Ticks>> {
    let text = info.text_of(name);
    if text.is_empty() {
        return Ok(None);
    }
    Ticks::parse_iso(text).map(Some).ok_or_else(|| Error::new("InvalidXmlNodeValue"))
}
