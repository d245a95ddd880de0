//! Shares: their life, settings, policies, statistics and snapshots.

use super::Context;
use crate::call::{Call, Reply};
use crate::error::{Error, Result};
use crate::names;
use crate::store::{Policy, Share};
use crate::time::Ticks;
use crate::xml::{Element, Xml};

const QUOTA: &str = "x-ms-share-quota";
const QUOTA_GIB_MAX: u64 = 102_400;
const TIER: &str = "x-ms-access-tier";
const SQUASH: &str = "x-ms-root-squash";
const SNAPSHOTS_MAX: usize = 200;
const POLICIES_MAX: usize = 5;

/// Puts the settings that a request names.
fn apply_settings(share: &mut Share, call: &Call, now: Ticks) -> Result<()> {
    let quota = call.number(QUOTA)?;
    if let Some(quota) = quota.filter(|quota| !(1..=QUOTA_GIB_MAX).contains(quota)) {
        return Err(Error::header(QUOTA, &quota.to_string()));
    }
    let tiers = ["TransactionOptimized", "Hot", "Cool", "Premium"];
    let tier = one_of(call, TIER, &tiers)?;
    let squash = one_of(call, SQUASH, &["NoRootSquash", "RootSquash", "AllSquash"])?;
    share.quota = quota.unwrap_or(share.quota);
    if let Some(tier) = tier {
        share.tier = tier;
        share.tier_changed = now;
    }
    if share.is_nfs() && squash.is_some() {
        share.root_squash = squash;
    }
    Ok(())
}

fn one_of(call: &Call, name: &str, known: &[&str]) -> Result<Option<String>> {
    let Some(text) = call.header(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let found = known.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.map(|word| Some((*word).to_owned())).ok_or_else(|| Error::header(name, text))
}

/// A lease id that is sent must be right.
fn check_lease(context: &Context<'_>) -> Result<()> {
    let lease = &context.share()?.lease;
    lease.check(context.call.header("x-ms-lease-id"), false, context.clock.now())
}

/// Create Share.
pub fn create(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let name = call.share();
    if !(3..=63).contains(&name.len()) {
        return Err(Error::new("OutOfRangeInput"));
    }
    if !names::share_name_is_valid(name) {
        return Err(Error::new("InvalidResourceName"));
    }
    let protocols = one_of(call, "x-ms-enabled-protocols", &["SMB", "NFS"])?;
    let mut share = Share::new(stamp, protocols.as_deref().unwrap_or("SMB"));
    share.metadata = call.metadata()?;
    if share.is_nfs() {
        share.root_squash = Some("NoRootSquash".to_owned());
    }
    apply_settings(&mut share, call, stamp)?;
    if context.store.shares.contains_key(name) {
        return Err(Error::new("ShareAlreadyExists"));
    }
    let quota = share.quota.to_string();
    context.store.shares.insert(name.to_owned(), share);
    Ok(Reply::new(201).stamped(stamp).with(QUOTA, quota))
}

/// Get Share Properties, and its metadata.
pub fn get_properties(context: &mut Context<'_>) -> Result<Reply> {
    let (call, now) = (context.call, context.clock.now());
    let share = context.share()?;
    let (metadata, stamp, lease) = match call.query("sharesnapshot") {
        None => (&share.metadata, share.stamp, &share.lease),
        Some(id) => {
            let snapshot = share.snapshot(id)?;
            (&snapshot.metadata, snapshot.stamp, &snapshot.lease)
        }
    };
    lease.check(call.header("x-ms-lease-id"), false, now)?;
    let (status, state, duration) = lease.texts(now);
    Ok(Reply::new(200)
        .stamped(stamp)
        .with_metadata(metadata)
        .with(QUOTA, share.quota.to_string())
        .with("x-ms-lease-status", status)
        .with("x-ms-lease-state", state)
        .with_some("x-ms-lease-duration", duration)
        .with(TIER, share.tier.as_str())
        .with("x-ms-access-tier-change-time", share.tier_changed.rfc1123())
        .with("x-ms-enabled-protocols", share.protocols.as_str())
        .with_some(SQUASH, share.root_squash.as_deref())
        .with("x-ms-share-provisioned-iops", "1000")
        .with("x-ms-share-provisioned-bandwidth-mibps", "60"))
}

/// Set Share Properties.
pub fn set_properties(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    check_lease(context)?;
    let share = context.share_mut()?;
    apply_settings(share, call, stamp)?;
    share.stamp = stamp;
    Ok(Reply::new(200).stamped(stamp).with(QUOTA, share.quota.to_string()))
}

/// Set Share Metadata.
pub fn set_metadata(context: &mut Context<'_>) -> Result<Reply> {
    let (metadata, stamp) = (context.call.metadata()?, context.stamp());
    check_lease(context)?;
    let share = context.share_mut()?;
    share.metadata = metadata;
    share.stamp = stamp;
    Ok(Reply::new(200).stamped(stamp))
}

/// Delete Share, or one of its snapshots.
pub fn delete(context: &mut Context<'_>) -> Result<Reply> {
    let (call, now) = (context.call, context.clock.now());
    let lease_id = call.header("x-ms-lease-id");
    let share = context.store.share_mut(call.share())?;
    if let Some(id) = call.query("sharesnapshot") {
        share.snapshot(id)?.lease.check(lease_id, true, now)?;
        share.snapshots.remove(id);
        return Ok(Reply::new(202));
    }
    share.lease.check(lease_id, true, now)?;
    let with_snapshots = one_of(call, "x-ms-delete-snapshots", &["include", "include-leased"])?;
    if with_snapshots.is_none() && !share.snapshots.is_empty() {
        return Err(Error::new("ShareHasSnapshots"));
    }
    let leased = share.snapshots.values().any(|snapshot| snapshot.lease.is_locked(now));
    if with_snapshots.as_deref() == Some("include") && leased {
        return Err(Error::new("DeleteShareWhenSnapshotLeased"));
    }
    let removed = context.store.shares.remove_entry(call.share());
    if context.config.soft_delete {
        context.store.deleted.extend(removed);
    }
    Ok(Reply::new(202))
}

/// Restore Share: a deleted one, if deletion is soft. Its version is the ETag it had.
pub fn undelete(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let name = call.required("x-ms-deleted-share-name")?;
    let version = call.required("x-ms-deleted-share-version")?;
    let of = |(deleted, share): &(String, Share)| deleted == name && share.stamp.etag() == version;
    let at =
        context.store.deleted.iter().position(of).ok_or_else(|| Error::new("ShareNotFound"))?;
    if context.store.shares.contains_key(call.share()) {
        return Err(Error::new("ShareAlreadyExists"));
    }
    let (_, mut share) = context.store.deleted.remove(at);
    share.stamp = stamp;
    context.store.shares.insert(call.share().to_owned(), share);
    Ok(Reply::new(201).stamped(stamp))
}

/// Get Share ACL: the stored access policies.
pub fn get_acl(context: &mut Context<'_>) -> Result<Reply> {
    check_lease(context)?;
    let share = context.share()?;
    let mut xml = Xml::new("SignedIdentifiers", &[]);
    for policy in &share.policies {
        xml.open("SignedIdentifier");
        xml.element("Id", &policy.id);
        xml.open("AccessPolicy");
        let parts = [
            ("Start", &policy.start),
            ("Expiry", &policy.expiry),
            ("Permission", &policy.permission),
        ];
        for (name, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
            xml.element(name, value);
        }
        xml.close();
        xml.close();
    }
    Ok(Reply::xml(200, xml).stamped(share.stamp))
}

/// Set Share ACL.
pub fn set_acl(context: &mut Context<'_>) -> Result<Reply> {
    let stamp = context.stamp();
    check_lease(context)?;
    let mut policies = Vec::new();
    if !context.call.body.is_empty() {
        let document = Element::parse(&context.call.body, "SignedIdentifiers")?;
        for identifier in &document.children {
            let access = identifier.child("AccessPolicy").cloned().unwrap_or_default();
            let part = |name| access.text_of(name).to_owned();
            let (start, expiry) = (part("Start"), part("Expiry"));
            let dates = [&start, &expiry];
            let id = identifier.text_of("Id").to_owned();
            let wrong_date =
                dates.iter().any(|date| !date.is_empty() && Ticks::parse_iso(date).is_none());
            if id.is_empty() || id.chars().count() > 64 || wrong_date {
                return Err(Error::new("InvalidXmlDocument"));
            }
            policies.push(Policy { id, start, expiry, permission: part("Permission") });
        }
    }
    if policies.len() > POLICIES_MAX {
        return Err(Error::new("InvalidXmlDocument"));
    }
    let share = context.share_mut()?;
    share.policies = policies;
    share.stamp = stamp;
    Ok(Reply::new(200).stamped(stamp))
}

/// Get Share Stats.
pub fn get_stats(context: &mut Context<'_>) -> Result<Reply> {
    check_lease(context)?;
    let share = context.share()?;
    let mut xml = Xml::new("ShareStats", &[]);
    xml.element("ShareUsageBytes", &share.tree.allocated_bytes().to_string());
    Ok(Reply::xml(200, xml).stamped(share.stamp))
}

/// Snapshot Share.
pub fn snapshot(context: &mut Context<'_>) -> Result<Reply> {
    let (metadata, now) = (context.call.metadata()?, context.clock.now());
    let share = context.share_mut()?;
    if share.snapshots.len() >= SNAPSHOTS_MAX {
        return Err(Error::new("ShareSnapshotCountExceeded"));
    }
    let id = share.take_snapshot(now, metadata);
    Ok(Reply::new(201).stamped(share.stamp).with("x-ms-snapshot", id))
}
