//! What goes wrong, when, and how often: rules in order, then chance.

use crate::prng::Prng;
use crate::{ErrorKind, RemotePath};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One way for a request to go wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails and nothing was done.
    Before(ErrorKind),
    /// It is done, but its answer is lost.
    After(ErrorKind),
    /// A body (of a read, or the source of a replace) breaks off after so many bytes; a request
    /// without a body fails before.
    Short {
        /// Bytes that still pass.
        bytes: u64,
        /// What is said then.
        kind: ErrorKind,
    },
    /// A body stops after so many bytes until the gate is opened; a request without a body stops
    /// before it is made.
    Stall {
        /// Bytes that still pass.
        bytes: u64,
        /// What it waits for.
        gate: Gate,
    },
    /// It is made so much later, by tokio's clock.
    Delay(Duration),
    /// It is done, and its answer comes so much later.
    Late(Duration),
}

/// A place where requests wait until a test opens it.
#[derive(Clone)]
pub struct Gate(Arc<Doors>);

struct Doors {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Gate(Arc::new(Doors { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }))
    }

    /// Lets all pass, now and later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until so many requests have come here since the start. Cancel-safe.
    pub async fn arrived(&self, count: usize) {
        let _ = self.0.arrived.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    pub(super) async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self.0.open.borrow() { "Gate(open)" } else { "Gate(closed)" })
    }
}

type PathTest = Arc<dyn Fn(&RemotePath) -> bool + Send + Sync>;

/// Which requests a fault is for: an operation by the name of its method, and maybe paths.
#[derive(Clone)]
pub struct Rule {
    op: &'static str,
    path: Option<PathTest>,
    skip: u64,
    left: Option<u64>,
    fault: Fault,
}

impl Rule {
    /// Every request of `op` (`"read"`, `"replace"`, ...; `"*"` for all of them), for ever.
    pub fn new(op: &'static str, fault: Fault) -> Self {
        Rule { op, path: None, skip: 0, left: None, fault }
    }

    /// Only those about this path (of a rename: either).
    pub fn at(self, path: &RemotePath) -> Self {
        let wanted = path.clone();
        self.when(move |path| *path == wanted)
    }

    /// Only those about a path for which `test` says so (of a rename: either).
    pub fn when(mut self, test: impl Fn(&RemotePath) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Arc::new(test));
        self
    }

    /// Only the first `count` of them.
    pub fn times(mut self, count: u64) -> Self {
        self.left = Some(count);
        self
    }

    /// Only once `count` of them have passed unharmed.
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    fn matches(&self, op: &str, paths: &[&RemotePath]) -> bool {
        (self.op == "*" || self.op == op)
            && self.path.as_ref().is_none_or(|test| paths.iter().any(|path| test(path)))
    }
}

/// How often things go wrong by chance, in so many of 1000 requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Fails before: unreachable, timeout or busy.
    pub before: u32,
    /// The answer is lost.
    pub after: u32,
    /// The body breaks off somewhere in its first 256 KiB.
    pub short: u32,
    /// It is made, or answered, up to a second and a half later: others pass it.
    pub slow: u32,
}

/// All rules, and chance.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) rules: Vec<Rule>,
    pub(super) chance: Option<(Prng, Odds)>,
}

impl Plan {
    /// What is to go wrong with this request: the first rule that has something left for it.
    pub(super) fn draw(&mut self, op: &str, paths: &[&RemotePath]) -> Option<Fault> {
        for rule in self.rules.iter_mut().filter(|rule| rule.matches(op, paths)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            match &mut rule.left {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            return Some(rule.fault.clone());
        }
        let (prng, odds) = self.chance.as_mut()?;
        let mut left = prng.below(1000) as u32;
        let mut falls = |share: u32| {
            let falls = left < share;
            left = left.saturating_sub(share);
            falls
        };
        if falls(odds.before) {
            let kinds = [ErrorKind::Unreachable, ErrorKind::Timeout, ErrorKind::Busy];
            return Some(Fault::Before(kinds[prng.below(3) as usize]));
        }
        if falls(odds.after) {
            return Some(Fault::After(ErrorKind::Timeout));
        }
        if falls(odds.short) {
            let bytes = prng.below(256 << 10);
            return Some(Fault::Short { bytes, kind: ErrorKind::Unreachable });
        }
        if falls(odds.slow) {
            let time = Duration::from_millis(prng.below(1500));
            return Some(if prng.below(2) == 0 { Fault::Delay(time) } else { Fault::Late(time) });
        }
        None
    }
}
