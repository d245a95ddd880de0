//! Secrets that stand in no file and no variable: from the keyring, else from a person on a terminal.
//! `covefs login` puts one into the keyring, `covefs logout` takes it out.

use crate::fail;
use crate::keyring::{self, Found, Place};
use crate::share::Share;
use crate::system::terminal;
use crate::text::{escaped, say};
use anyhow::{Result, bail};
use std::ffi::OsStr;

/// A secret that a share needs, and nothing says.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// Where a keyring has it.
    pub place: Place,
    /// What it is, to a person: "password of ME at HOST".
    pub what: String,
    /// Whether a mount asks a person for it.
    pub is_typed: bool,
}

/// The secret, where the keyring has it or a person knows it. `note` is told why a keyring that is
/// there did not answer.
pub(crate) fn find(wanted: &Wanted, note: &mut dyn FnMut(String)) -> Result<Option<String>> {
    match keyring::look(&wanted.place) {
        Found::Secret(secret) => return Ok(Some(secret)),
        Found::Nothing => {}
        Found::Unknown(why) => {
            note(format!("the {} was not found in the keyring: {why}", escaped(&wanted.what)));
        }
    }
    if !wanted.is_typed || !terminal::is_there() {
        return Ok(None);
    }
    terminal::ask_secret(&prompt(wanted)).map(Some)
}

fn prompt(wanted: &Wanted) -> String {
    let what = escaped(&wanted.what);
    let first = what.chars().take(1).map(|symbol| symbol.to_ascii_uppercase());
    first.chain(what.chars().skip(1)).chain(": ".chars()).collect()
}

/// `covefs login`: asks, or reads a line where there is no terminal, and keeps it.
pub(crate) fn login(share: &OsStr) -> Result<()> {
    let share = Share::parse(share)?;
    let wanted = wanted(&share)?;
    let secret = match terminal::is_there() {
        true => terminal::ask_secret(&prompt(&wanted))?,
        false => terminal::read_line()?,
    };
    share.check_secret(&secret)?;
    let what = escaped(&wanted.what);
    if let Err(why) = keyring::keep(&wanted.place, secret) {
        bail!(
            "the {what} cannot be kept in the keyring: {why}; write it into a file that only you \
             can read and name that with --credentials FILE"
        );
    }
    say!("the {what} is in the keyring; covefs mount {} finds it there", share.canonical());
    Ok(())
}

/// `covefs logout`.
pub(crate) fn logout(share: &OsStr) -> Result<()> {
    let share = Share::parse(share)?;
    let wanted = wanted(&share)?;
    let what = escaped(&wanted.what);
    match keyring::forget(&wanted.place) {
        Ok(true) => say!("the {what} is no longer in the keyring"),
        Ok(false) => bail!("the keyring has no {what}"),
        Err(why) => bail!("the {what} cannot be taken out of the keyring: {why}"),
    }
    Ok(())
}

fn wanted(share: &Share) -> Result<Wanted> {
    match share.secret()? {
        Some(wanted) => Ok(wanted),
        None => Err(fail::usage("a directory needs no login")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(share: &str) -> Wanted {
        wanted(&Share::parse(OsStr::new(share)).unwrap()).unwrap()
    }

    #[test]
    fn one_login_stands_in_one_place_however_the_share_is_named() {
        let place = |share: &str| {
            let Place { service, user } = of(share).place;
            (service, user)
        };
        let nas = || ("covefs smb://nas".to_string(), "me".to_string());
        for share in ["smb://me@nas/photos", "smb://Me@NAS:445/films/2024", "//ME@nas/x"] {
            assert_eq!(place(share), nas(), "{share}");
        }
        let work = ("covefs smb://nas:4450".to_string(), r"work\me".to_string());
        assert_eq!(place("smb://WORK;me@nas:4450/x"), work);
        let acme = ("covefs azfiles://acme".to_string(), "acme".to_string());
        assert_eq!(place("azfiles://acme/docs"), acme);
        assert_eq!(place("https://acme.file.core.windows.net/docs/a"), acme);
    }

    #[test]
    fn a_person_is_asked_in_words() {
        assert_eq!(prompt(&of("smb://me@nas/x")), "Password of me at nas: ");
        let words = "Account key, SAS token or connection string of acme: ";
        assert_eq!(prompt(&of("azfiles://acme/docs")), words);
    }

    #[test]
    fn what_can_be_no_key_is_not_kept() {
        let share = Share::parse(OsStr::new("azfiles://acme/docs")).unwrap();
        for good in ["aHVudGVyMg==", "?sv=1&sig=x", "AccountName=acme;AccountKey=aHVudGVyMg=="] {
            share.check_secret(good).unwrap();
        }
        for bad in ["hunter2!", "AccountName=other;AccountKey=aHVudGVyMg=="] {
            let line = fail::one_line(&share.check_secret(bad).unwrap_err());
            assert!(!line.contains("hunter2") && !line.contains("aHVu"), "{line}");
        }
    }
}
