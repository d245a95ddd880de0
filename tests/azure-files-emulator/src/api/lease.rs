//! Leases on files and shares.

use super::Context;
use crate::call::{Call, Reply};
use crate::crypto;
use crate::error::{Error, Result};

const ACTION: &str = "x-ms-lease-action";
const DURATION: &str = "x-ms-lease-duration";
const PROPOSED: &str = "x-ms-proposed-lease-id";
const ID: &str = "x-ms-lease-id";
const PERIOD: &str = "x-ms-lease-break-period";

/// A lease id as it is sent, which must be a GUID.
fn guid<'a>(call: &'a Call, name: &str) -> Result<Option<&'a str>> {
    let Some(text) = call.header(name) else { return Ok(None) };
    let digits = text.trim_matches(['{', '}']).replace('-', "");
    let valid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { Ok(Some(text)) } else { Err(Error::header(name, text)) }
}

fn required_guid<'a>(call: &'a Call, name: &str) -> Result<&'a str> {
    guid(call, name)?.ok_or_else(|| Error::missing_header(name))
}

/// Seconds in a header, None if it is absent.
fn seconds(call: &Call, name: &str) -> Result<Option<i64>> {
    let Some(text) = call.header(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::header(name, text))
}

/// Lease File.
pub fn of_file(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    call.refuse_snapshot()?;
    let path = call.components()?;
    let share = context.share_mut()?;
    let id = share.tree.file(&path)?;
    let writes_are_shared = share.check_handles(id, false);
    let node = share.tree.node_mut(id);
    node.check_no_copy()?;
    let (stamp, lease) = (node.stamp, &mut node.lease);
    let action = call.required(ACTION)?.to_ascii_lowercase();
    let reply = match action.as_str() {
        "acquire" => {
            writes_are_shared?;
            if let Some(duration) = seconds(call, DURATION)?.filter(|seconds| *seconds != -1) {
                return Err(Error::header(DURATION, &duration.to_string()));
            }
            let held = lease.acquire(guid(call, PROPOSED)?, crypto::guid())?;
            Reply::new(201).with(ID, held)
        }
        "change" => {
            let held = lease.change(required_guid(call, ID)?, required_guid(call, PROPOSED)?)?;
            Reply::new(200).with(ID, held)
        }
        "release" => {
            lease.release(required_guid(call, ID)?)?;
            Reply::new(200)
        }
        "break" => {
            lease.break_now()?;
            Reply::new(202).with("x-ms-lease-time", "0")
        }
        other => return Err(Error::header(ACTION, other)),
    };
    Ok(reply.stamped(stamp))
}

/// Lease Share, or of one of its snapshots.
pub fn of_share(context: &mut Context<'_>) -> Result<Reply> {
    let (call, now) = (context.call, context.clock.now());
    let share = context.store.share_mut(call.share())?;
    let (stamp, lease) = match call.query("sharesnapshot") {
        None => (share.stamp, &mut share.lease),
        Some(id) => {
            let snapshot = share.snapshots.get_mut(id);
            let snapshot = snapshot.ok_or_else(|| Error::new("ShareSnapshotNotFound"))?;
            (snapshot.stamp, &mut snapshot.lease)
        }
    };
    let action = call.required(ACTION)?.to_ascii_lowercase();
    let reply = match action.as_str() {
        "acquire" => {
            let duration = match seconds(call, DURATION)? {
                None | Some(-1) => None,
                Some(seconds @ 15..=60) => Some(seconds),
                Some(other) => return Err(Error::header(DURATION, &other.to_string())),
            };
            let held = lease.acquire(guid(call, PROPOSED)?, crypto::guid(), duration, now)?;
            Reply::new(201).with(ID, held)
        }
        "renew" => Reply::new(200).with(ID, lease.renew(required_guid(call, ID)?, now)?),
        "change" => {
            let proposed = required_guid(call, PROPOSED)?;
            let held = lease.change(required_guid(call, ID)?, proposed, now)?;
            Reply::new(200).with(ID, held)
        }
        "release" => {
            lease.release(required_guid(call, ID)?)?;
            Reply::new(200)
        }
        "break" => {
            let period = seconds(call, PERIOD)?;
            if let Some(period) = period.filter(|period| !(0..=60).contains(period)) {
                return Err(Error::header(PERIOD, &period.to_string()));
            }
            let left = lease.break_after(period, now)?;
            Reply::new(202).with("x-ms-lease-time", left.to_string())
        }
        other => return Err(Error::header(ACTION, other)),
    };
    Ok(reply.stamped(stamp))
}
