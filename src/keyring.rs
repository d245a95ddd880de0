//! The keyring of whoever runs this: Secret Service on Linux, Keychain on macOS, Credential Manager on
//! Windows. It may be locked, ask its owner, or never answer: nothing waits for it without a bound. A
//! call that was given up goes on in a thread of its own, which ends with the process.

use keyring::Error;
use keyring::v1::Entry;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A mount goes on without a keyring after so long. Its owner may have to unlock it meanwhile.
const MOUNT_WAIT: Duration = Duration::from_secs(15);

/// Who asked for nothing but the keyring has time to find the key of it.
const OWNER_WAIT: Duration = Duration::from_secs(120);

/// Where a login stands in a keyring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// What it is for: `covefs smb://HOST` or `covefs azfiles://ACCOUNT`.
    pub service: String,
    /// Whose it is.
    pub user: String,
}

/// What a keyring says of a place.
pub(crate) enum Found {
    /// What is kept there.
    Secret(String),
    /// Nothing is, or there is no keyring.
    Nothing,
    /// There is a keyring, and it does not say: why.
    Unknown(String),
}

/// Looks for what is kept at a place.
pub(crate) fn look(place: &Place) -> Found {
    match within(MOUNT_WAIT, place, |entry| entry.get_password()) {
        Ok(secret) if secret.is_empty() => Found::Nothing,
        Ok(secret) => Found::Secret(secret),
        Err(Refusal::NoEntry | Refusal::NoKeyring(_)) => Found::Nothing,
        Err(refusal) => Found::Unknown(refusal.why()),
    }
}

/// Keeps a secret at a place, instead of what was there. The error is what to tell a person.
pub(crate) fn keep(place: &Place, secret: String) -> Result<(), String> {
    let kept = within(OWNER_WAIT, place, move |entry| entry.set_password(&secret));
    kept.map_err(|refusal| refusal.why())
}

/// Empties a place; whether anything was there.
pub(crate) fn forget(place: &Place) -> Result<bool, String> {
    match within(OWNER_WAIT, place, |entry| entry.delete_credential()) {
        Ok(()) => Ok(true),
        Err(Refusal::NoEntry) => Ok(false),
        Err(refusal) => Err(refusal.why()),
    }
}

/// Why there is no answer; never what is kept.
#[derive(Debug)]
enum Refusal {
    NoEntry,
    NoKeyring(String),
    Refused(String),
    Silent,
}

impl Refusal {
    fn of(error: &Error) -> Refusal {
        // The words of the others may hold what is kept.
        Refusal::Refused(match error {
            Error::NoEntry => return Refusal::NoEntry,
            Error::NoStorageAccess(_) => "it is locked, and was not unlocked".into(),
            Error::PlatformFailure(why) => why.to_string(),
            Error::TooLong(_, limit) => format!("it keeps at most {limit} characters"),
            Error::Ambiguous(_) => "it has several logins for this; remove all but one".into(),
            Error::BadEncoding(_) => "what it keeps is no text".into(),
            _ => "it cannot be used".into(),
        })
    }

    fn why(self) -> String {
        match self {
            Refusal::NoEntry => "it has no such login".into(),
            Refusal::NoKeyring(why) => format!("there is none: {why}"),
            Refusal::Refused(why) => why,
            Refusal::Silent => "it does not answer; it may wait to be unlocked".into(),
        }
    }
}

/// Does something with a place of the keyring.
fn within<T: Send + 'static>(
    wait: Duration,
    place: &Place,
    ask: impl FnOnce(&Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let Place { service, user } = place.clone();
    bounded(wait, move || {
        if let Err(error) = Entry::store_status() {
            return Err(Refusal::NoKeyring(match error {
                Error::PlatformFailure(why) => why.to_string(),
                _ => "this system has none".into(),
            }));
        }
        let entry = Entry::new(&service, &user);
        entry.and_then(|entry| ask(&entry)).map_err(|error| Refusal::of(&error))
    })
}

/// What a call that may never return says, if it does in time.
fn bounded<T: Send + 'static>(
    wait: Duration,
    call: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, answer) = channel();
    let spawned = std::thread::Builder::new().name("covefs-keyring".into()).spawn(move || {
        // Whoever asked may have given up.
        let _ = sender.send(call());
    });
    if let Err(error) = spawned {
        return Err(Refusal::Refused(error.to_string()));
    }
    match answer.recv_timeout(wait) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(Refusal::Silent),
        // The call panicked.
        Err(RecvTimeoutError::Disconnected) => Err(Refusal::Refused("it cannot be used".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_that_never_answers_is_given_up() {
        let (hold, held) = channel::<()>();
        let asked = bounded(Duration::from_millis(20), move || {
            let _ = held.recv();
            Ok(())
        });
        assert!(asked.unwrap_err().why().contains("does not answer"));
        drop(hold);
        assert_eq!(bounded(MOUNT_WAIT, || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn what_is_kept_is_in_no_words() {
        let bytes = || b"hunter2\xff".to_vec();
        let broken = std::io::Error::other("broken");
        for error in [Error::BadEncoding(bytes()), Error::BadDataFormat(bytes(), Box::new(broken))]
        {
            let refusal = Refusal::of(&error);
            let words = format!("{refusal:?} ") + &refusal.why();
            assert!(!words.contains("hunter2") && !words.contains("104"), "{words}");
        }
    }
}
