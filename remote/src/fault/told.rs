//! Changes that are told late, never, or no more.

use super::plan::Plan;
use super::{Counts, Fault};
use crate::{Change, ChangeStream, RemotePath};
use futures_util::stream::{self, StreamExt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// The changes, with what the plan says of `"told"`: one that fails is never told, one that breaks
/// off or finds no connection is the last.
pub(super) fn troubled(
    changes: ChangeStream,
    plan: Arc<Mutex<Plan>>,
    counts: Arc<Counts>,
) -> ChangeStream {
    let next = |(mut changes, plan, counts): (ChangeStream, Arc<Mutex<Plan>>, Arc<Counts>)| async {
        loop {
            let change = changes.next().await?;
            if counts.is_offline() {
                return None;
            }
            let about = match &change {
                Change::At(path) | Change::In(path) => path.clone(),
                Change::Lost => RemotePath::root(),
            };
            let fault = plan.lock().unwrap_or_else(PoisonError::into_inner).draw("told", &[&about]);
            if fault.is_some() {
                counts.faults.fetch_add(1, Ordering::Relaxed);
            }
            match fault {
                Some(Fault::Before(_) | Fault::After(_)) => continue,
                Some(Fault::Short { .. }) => return None,
                Some(Fault::Delay(delay) | Fault::Late(delay)) => tokio::time::sleep(delay).await,
                Some(Fault::Stall { gate, .. }) => gate.pass().await,
                None => {}
            }
            return Some((change, (changes, plan, counts)));
        }
    };
    stream::unfold((changes, plan, counts), next).boxed()
}
