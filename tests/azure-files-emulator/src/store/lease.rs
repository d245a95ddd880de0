//! Leases: on files (infinite, broken at once) and on shares (of fixed or infinite duration).

use crate::error::{Error, Result};
use crate::time::Ticks;
use serde::{Deserialize, Serialize};

/// The lease of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileLease {
    /// Nobody's.
    #[default]
    Available,
    /// Of whoever knows the id.
    Leased(String),
    /// Broken; the id was this.
    Broken(String),
}

impl FileLease {
    /// Takes the lease, under the id proposed or else the one generated.
    pub fn acquire(&mut self, proposed: Option<&str>, generated: String) -> Result<String> {
        if let FileLease::Leased(id) = self {
            return match proposed {
                Some(proposed) if same(proposed, id) => Ok(id.clone()),
                _ => Err(Error::new("LeaseAlreadyPresent")),
            };
        }
        let id = proposed.map_or(generated, str::to_lowercase);
        *self = FileLease::Leased(id.clone());
        Ok(id)
    }

    /// Gives the lease another id. Repeating a change that was done is no error.
    pub fn change(&mut self, id: &str, proposed: &str) -> Result<String> {
        let FileLease::Leased(held) = self else {
            return Err(Error::new("LeaseNotPresentWithLeaseOperation"));
        };
        if !same(held, id) && !same(held, proposed) {
            return Err(Error::new("LeaseIdMismatchWithLeaseOperation"));
        }
        *held = proposed.to_lowercase();
        Ok(held.clone())
    }

    /// Gives the lease back.
    pub fn release(&mut self, id: &str) -> Result<()> {
        match self {
            FileLease::Available => Err(Error::new("LeaseNotPresentWithLeaseOperation")),
            FileLease::Leased(held) | FileLease::Broken(held) if !same(held, id) => {
                Err(Error::new("LeaseIdMismatchWithLeaseOperation"))
            }
            _ => {
                *self = FileLease::Available;
                Ok(())
            }
        }
    }

    /// Ends the lease, whoever has it.
    pub fn break_now(&mut self) -> Result<()> {
        match self {
            FileLease::Available => Err(Error::new("LeaseNotPresentWithLeaseOperation")),
            FileLease::Leased(id) | FileLease::Broken(id) => {
                *self = FileLease::Broken(std::mem::take(id));
                Ok(())
            }
        }
    }

    /// Whether a write that names `id` may go on.
    pub fn check_write(&self, id: Option<&str>) -> Result<()> {
        match (self, id) {
            (FileLease::Leased(_), None) => Err(Error::new("LeaseIdMissing")),
            _ => self.check_read(id),
        }
    }

    /// Whether a read that names `id` may go on: only a wrong id is in the way.
    pub fn check_read(&self, id: Option<&str>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        match self {
            FileLease::Available => Err(Error::new("LeaseNotPresentWithFileOperation")),
            FileLease::Leased(held) if same(held, id) => Ok(()),
            FileLease::Leased(_) => Err(Error::new("LeaseIdMismatchWithFileOperation")),
            FileLease::Broken(_) => Err(Error::new("LeaseLost")),
        }
    }

    /// After a write: one that named no id ends a broken lease.
    pub fn written(&mut self) {
        if matches!(self, FileLease::Broken(_)) {
            *self = FileLease::Available;
        }
    }

    /// `x-ms-lease-status`, `-state` and `-duration`.
    pub fn texts(&self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            FileLease::Available => ("unlocked", "available", None),
            FileLease::Leased(_) => ("locked", "leased", Some("infinite")),
            FileLease::Broken(_) => ("unlocked", "broken", None),
        }
    }
}

/// GUIDs are compared without case and braces.
fn same(one: &str, other: &str) -> bool {
    let plain = |id: &str| id.trim_matches(['{', '}']).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// The lease of a share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShareLease {
    id: Option<String>,
    /// None is infinite.
    seconds: Option<i64>,
    expires: Option<Ticks>,
    /// When a break takes, or took, effect.
    breaks: Option<Ticks>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum State {
    Available,
    Leased,
    Expired,
    Breaking,
    Broken,
}

impl ShareLease {
    fn state(&self, now: Ticks) -> State {
        match (&self.id, self.breaks, self.expires) {
            (None, _, _) => State::Available,
            (_, Some(breaks), _) if breaks <= now => State::Broken,
            (_, Some(_), _) => State::Breaking,
            (_, None, Some(expires)) if expires <= now => State::Expired,
            _ => State::Leased,
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.id.as_deref().is_some_and(|held| same(held, id))
    }

    /// Takes the lease for `seconds`, or for ever.
    pub fn acquire(
        &mut self,
        proposed: Option<&str>,
        generated: String,
        seconds: Option<i64>,
        now: Ticks,
    ) -> Result<String> {
        let again = proposed.is_some_and(|id| self.holds(id));
        match self.state(now) {
            State::Leased if !again => return Err(Error::new("LeaseAlreadyPresent")),
            State::Breaking => return Err(Error::new("LeaseIsBreakingAndCannotBeAcquired")),
            _ => {}
        }
        let id = proposed.map_or(generated, str::to_lowercase);
        let expires = seconds.map(|seconds| Ticks(now.0 + Ticks::from_seconds(seconds).0));
        *self = ShareLease { id: Some(id.clone()), seconds, expires, breaks: None };
        Ok(id)
    }

    /// Begins the duration anew.
    pub fn renew(&mut self, id: &str, now: Ticks) -> Result<String> {
        match self.state(now) {
            State::Available => return Err(Error::new("LeaseNotPresentWithLeaseOperation")),
            _ if !self.holds(id) => return Err(Error::new("LeaseIdMismatchWithLeaseOperation")),
            State::Breaking | State::Broken => {
                return Err(Error::new("LeaseIsBrokenAndCannotBeRenewed"));
            }
            State::Leased | State::Expired => {}
        }
        self.expires = self.seconds.map(|seconds| Ticks(now.0 + Ticks::from_seconds(seconds).0));
        Ok(id.to_lowercase())
    }

    /// Gives the lease another id.
    pub fn change(&mut self, id: &str, proposed: &str, now: Ticks) -> Result<String> {
        match self.state(now) {
            State::Leased if self.holds(id) || self.holds(proposed) => {
                self.id = Some(proposed.to_lowercase());
                Ok(proposed.to_lowercase())
            }
            State::Leased => Err(Error::new("LeaseIdMismatchWithLeaseOperation")),
            State::Breaking => Err(Error::new("LeaseIsBreakingAndCannotBeChanged")),
            _ => Err(Error::new("LeaseNotPresentWithLeaseOperation")),
        }
    }

    /// Gives the lease back.
    pub fn release(&mut self, id: &str) -> Result<()> {
        match &self.id {
            None => Err(Error::new("LeaseNotPresentWithLeaseOperation")),
            Some(_) if !self.holds(id) => Err(Error::new("LeaseIdMismatchWithLeaseOperation")),
            Some(_) => {
                *self = ShareLease::default();
                Ok(())
            }
        }
    }

    /// Ends the lease after `period` seconds, or when it would have ended anyway. The rest in
    /// seconds.
    pub fn break_after(&mut self, period: Option<i64>, now: Ticks) -> Result<i64> {
        let rest = |until: Ticks| (until.0 - now.0).max(0).div_euclid(10_000_000);
        let left = match (self.state(now), self.breaks, self.expires) {
            (State::Available, _, _) => {
                return Err(Error::new("LeaseNotPresentWithLeaseOperation"));
            }
            (State::Breaking, Some(breaks), _) => rest(breaks),
            (State::Leased, _, Some(expires)) => rest(expires),
            (State::Leased, _, None) => period.unwrap_or(0),
            _ => 0,
        };
        let left = period.map_or(left, |period| period.min(left));
        self.breaks = Some(Ticks(now.0 + Ticks::from_seconds(left).0));
        Ok(left)
    }

    /// Whether a call that names `id` may go on; deletion needs the id of a lease that holds.
    pub fn check(&self, id: Option<&str>, deletes: bool, now: Ticks) -> Result<()> {
        let locked = matches!(self.state(now), State::Leased | State::Breaking);
        match id {
            None if locked && deletes => Err(Error::new("LeaseIdMissing")),
            None => Ok(()),
            Some(_) if self.id.is_none() => Err(Error::new("LeaseNotPresentWithShareOperation")),
            Some(id) if !self.holds(id) => Err(Error::new("LeaseIdMismatchWithShareOperation")),
            Some(_) if !locked => Err(Error::new("LeaseLost")),
            Some(_) => Ok(()),
        }
    }

    /// Whether it keeps the share from being deleted.
    pub fn is_locked(&self, now: Ticks) -> bool {
        matches!(self.state(now), State::Leased | State::Breaking)
    }

    /// `x-ms-lease-status`, `-state` and `-duration`.
    pub fn texts(&self, now: Ticks) -> (&'static str, &'static str, Option<&'static str>) {
        let duration = if self.seconds.is_some() { "fixed" } else { "infinite" };
        match self.state(now) {
            State::Available => ("unlocked", "available", None),
            State::Leased => ("locked", "leased", Some(duration)),
            State::Expired => ("unlocked", "expired", None),
            State::Breaking => ("locked", "breaking", None),
            State::Broken => ("unlocked", "broken", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";
    const C: &str = "00000000-0000-0000-0000-00000000000c";

    fn states() -> [FileLease; 3] {
        let held = || A.to_owned();
        [FileLease::Available, FileLease::Leased(held()), FileLease::Broken(held())]
    }

    /// What `act` gives in the states available, leased by A, broken by A: 0, or the status.
    #[track_caller]
    fn check(name: &str, expected: [u16; 3], act: impl Fn(&mut FileLease) -> Result<()>) {
        let got =
            states().map(|mut lease| act(&mut lease).map_or_else(|error| error.status(), |()| 0));
        assert_eq!(got, expected, "{name}");
    }

    #[test]
    fn a_file_lease_follows_the_table() {
        let acquire = |id| move |lease: &mut FileLease| lease.acquire(id, C.to_owned()).map(|_| ());
        check("acquire", [0, 409, 0], acquire(None));
        check("acquire A", [0, 0, 0], acquire(Some(A)));
        check("acquire B", [0, 409, 0], acquire(Some(B)));
        check("break", [409, 0, 0], FileLease::break_now);
        check("change A to B", [409, 0, 409], |lease| lease.change(A, B).map(|_| ()));
        check("change B to A", [409, 0, 409], |lease| lease.change(B, A).map(|_| ()));
        check("change B to C", [409, 409, 409], |lease| lease.change(B, C).map(|_| ()));
        check("release A", [409, 0, 0], |lease| lease.release(A));
        check("release B", [409, 409, 409], |lease| lease.release(B));
        check("write with A", [412, 0, 412], |lease| lease.check_write(Some(A)));
        check("write with B", [412, 412, 412], |lease| lease.check_write(Some(B)));
        check("write", [0, 412, 0], |lease| lease.check_write(None));
        check("read with A", [412, 0, 412], |lease| lease.check_read(Some(A)));
        check("read with B", [412, 412, 412], |lease| lease.check_read(Some(B)));
        check("read", [0, 0, 0], |lease| lease.check_read(None));
    }

    #[test]
    fn a_share_lease_expires_and_breaks() {
        let at = Ticks::from_seconds;
        let mut lease = ShareLease::default();
        lease.acquire(Some(A), C.to_owned(), Some(15), at(100)).unwrap();
        assert_eq!(lease.check(None, true, at(110)).unwrap_err().code, "LeaseIdMissing");
        assert_eq!(lease.texts(at(115)).1, "expired");
        lease.renew(A, at(116)).unwrap();
        assert_eq!(lease.break_after(Some(5), at(117)).unwrap(), 5);
        assert_eq!(lease.texts(at(118)).1, "breaking");
        let again = lease.acquire(Some(B), C.to_owned(), None, at(118));
        assert_eq!(again.unwrap_err().code, "LeaseIsBreakingAndCannotBeAcquired");
        assert_eq!(lease.texts(at(122)).1, "broken");
        assert_eq!(lease.renew(A, at(123)).unwrap_err().code, "LeaseIsBrokenAndCannotBeRenewed");
        lease.acquire(Some(B), C.to_owned(), None, at(123)).unwrap();
        assert_eq!(lease.texts(at(9999)), ("locked", "leased", Some("infinite")));
        lease.release(B).unwrap();
        assert_eq!(lease.check(Some(B), false, at(124)).unwrap_err().status(), 412);
    }
}
