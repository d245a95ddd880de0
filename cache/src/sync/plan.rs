//! What the share needs next for one node: pure, by state, not by operation.
//!
//! Local, base and remote differ; the plan is the next right step, never more, so that create and
//! delete cost nothing and ten saves are one upload. Parents come before children (their base has
//! to exist), a name is free before it is taken, and deletes come late (S3).

use crate::attr::Ino;
use crate::node::Node;
use covefs_remote::{Expect, Kind, Version};
use std::time::Duration;

/// Everything the decision depends on.
pub(crate) struct View {
    pub node: Node,
    /// The share has the directory that the node is in here.
    pub parent_there: bool,
    /// What the share has under the name that the node has here, if it is another node.
    pub occupant: Option<Node>,
    /// The occupant waits for the node in turn: both names are taken.
    pub cycle: bool,
    /// Has to move or go first: a child of a removed directory, or a directory that the node's
    /// new one still lies below on the share.
    pub blocker: Option<Ino>,
    /// Something appeared in this removed directory that its user never saw.
    pub unseen: bool,
    /// Will replace this removed node on the share (S3).
    pub successor: Option<Ino>,
    /// An upload acknowledged before this delete, still to come (S3).
    pub earlier: Option<Ino>,
    pub content: Option<ContentView>,
    /// Somebody waits: no debounce.
    pub urgent: bool,
    pub debounce: Duration,
    pub open_upload: Duration,
}

/// What matters of a content in use. Ages, not times.
#[derive(Clone, Copy, Default)]
pub(crate) struct ContentView {
    pub since_change: Duration,
    pub since_oldest: Duration,
    pub writers: u32,
    pub handles: u32,
    pub fsynced: bool,
    pub whole: bool,
}

/// The next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Nothing to do.
    Done,
    /// After this node.
    WaitFor(Ino),
    /// Not yet.
    Later(Duration),
    /// Bytes that open handles may still want go with the share's copy: fetch them first.
    Keep,
    CreateDir,
    Symlink,
    Replace(Expect),
    Move(Expect),
    /// Out of the way under a name of ours, because the names form a ring (X2).
    Detour,
    SetAttrs,
    Remove(Version),
    /// Our removal is dropped: what is in it beats that (S6).
    Revive,
}

/// Decides the next step.
pub(crate) fn plan(view: &View) -> Action {
    let node = &view.node;
    if !node.is_dirty() || node.kind == Kind::Special && node.base.is_none() {
        return Action::Done;
    }
    if node.place.is_none() {
        return plan_removal(view);
    }
    if !view.parent_there {
        return Action::WaitFor(node.place.as_ref().expect("checked above").parent);
    }
    match &node.base {
        None => plan_creation(view),
        Some(_) if node.is_moved() => plan_move(view),
        Some(base) if node.dirty_content => {
            quiet(view).unwrap_or(Action::Replace(Expect::Version(base.version)))
        }
        // A directory's times last: what is made in it would move them.
        Some(_) if node.dirty_attrs.times => view.blocker.map_or(Action::SetAttrs, Action::WaitFor),
        Some(_) => Action::SetAttrs,
    }
}

fn plan_removal(view: &View) -> Action {
    let Some(base) = &view.node.base else { return Action::Done };
    if view.unseen {
        return Action::Revive;
    }
    if let Some(first) = view.blocker.or(view.successor).or(view.earlier) {
        return Action::WaitFor(first);
    }
    match view.content {
        Some(content) if content.handles > 0 && !content.whole => Action::Keep,
        _ => Action::Remove(base.version),
    }
}

fn plan_creation(view: &View) -> Action {
    let expect = match &view.occupant {
        None => Expect::Absent,
        // A new file under the name of an old one is one replace (S3).
        Some(old) if replaces(&view.node, old) => version_of(old),
        Some(old) => return Action::WaitFor(old.ino),
    };
    match view.node.kind {
        Kind::File => quiet(view).unwrap_or(Action::Replace(expect)),
        Kind::Dir => Action::CreateDir,
        Kind::Symlink => Action::Symlink,
        Kind::Special => Action::Done,
    }
}

fn plan_move(view: &View) -> Action {
    if let Some(first) = view.blocker {
        return Action::WaitFor(first);
    }
    match &view.occupant {
        None => Action::Move(Expect::Absent),
        Some(old) if replaces(&view.node, old) => Action::Move(version_of(old)),
        Some(old) if old.place.is_none() => Action::WaitFor(old.ino),
        Some(_) if view.cycle => Action::Detour,
        Some(old) => Action::WaitFor(old.ino),
    }
}

/// Whether one request puts `next` in the place of the removed `old`. A removed directory goes by
/// itself, its children before it; and only bytes or a rename replace, not a new link.
pub(super) fn replaces(next: &Node, old: &Node) -> bool {
    let made = next.base.is_none() && next.kind == Kind::File && old.kind == Kind::File;
    let moved = next.base.is_some() && next.is_moved() && next.kind != Kind::Dir;
    old.place.is_none() && old.kind != Kind::Dir && (made || moved)
}

fn version_of(node: &Node) -> Expect {
    node.base.as_ref().map_or(Expect::Absent, |base| Expect::Version(base.version))
}

/// How long a file that may still be changing waits (S2); `None` when it may go.
fn quiet(view: &View) -> Option<Action> {
    let content = view.content?;
    if view.urgent {
        return None;
    }
    let rest = |wanted: Duration, age: Duration| {
        let rest = wanted.saturating_sub(age);
        (!rest.is_zero()).then_some(Action::Later(rest))
    };
    if content.writers > 0 && !content.fsynced {
        return rest(view.open_upload, content.since_oldest);
    }
    // A steady writer does not put it off for ever.
    if content.since_oldest >= view.open_upload {
        return None;
    }
    rest(view.debounce, content.since_change)
}
