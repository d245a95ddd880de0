//! `-o` words: our own become a layer of settings, mount(8)'s generic ones are dropped or handed
//! on, and a word nobody knows is an error.

use crate::config::{Layer, Origin, SWITCHES, known_key};
use crate::fail;
use crate::system::files;
use anyhow::Result;
use std::ffi::{OsStr, OsString};

/// What the words of all `-o` say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Words {
    /// Our own settings.
    pub layer: Layer,
    /// The mountpoint may hold files; they are hidden while the drive is mounted.
    pub nonempty: bool,
    /// `source=SHARE`: the share, when the first word is only a name for the mount table.
    pub source: Option<OsString>,
    /// Generic options that change how the kernel mounts: `nosuid`, `noatime`, ...
    pub extra: Vec<String>,
    /// `foreground`: as the flag.
    pub foreground: bool,
    /// `config=FILE`: as the flag.
    pub config: Option<OsString>,
}

/// Words of other FUSE programs and of mount(8) that say what is so anyway, or nothing to us.
const WITHOUT_EFFECT: &[&str] =
    &["fsname", "subtype", "big_writes", "auto_unmount", "symfollow", "uhelper", "helper"];

/// Reads all `-o` arguments. With `sloppy` (mount(8)'s `-s`) unknown words are ignored.
pub(crate) fn parse(arguments: &[OsString], sloppy: bool) -> Result<Words> {
    let mut words = Words {
        layer: Layer::new(Origin::Options),
        nonempty: false,
        source: None,
        extra: Vec::new(),
        foreground: false,
        config: None,
    };
    let mut generic = Vec::new();
    for argument in arguments {
        for word in
            argument.as_encoded_bytes().split(|byte| *byte == b',').filter(|w| !w.is_empty())
        {
            take(&mut words, &mut generic, word)?;
        }
    }
    let (known, unknown) = covefs_mount::filter_options(&generic);
    words.extra = known;
    let unknown = unknown.iter().map(|word| word.split('=').next().unwrap_or_default());
    match unknown.into_iter().find(|name| !sloppy && !WITHOUT_EFFECT.contains(name)) {
        None => Ok(words),
        Some(name) => Err(fail::usage(format!(
            "unknown mount option '{name}'; `covefs mount --help` lists covefs' own (write them \
             without the --)"
        ))),
    }
}

fn take(words: &mut Words, generic: &mut Vec<String>, word: &[u8]) -> Result<()> {
    let mut parts = word.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let value = parts.next().map(files::name);
    match name.as_str() {
        "ro" => words.layer.put("read-only", Some("true")),
        // mount(8) says it always; the last word counts.
        "rw" => drop(words.layer.values.remove("read-only")),
        "nonempty" => words.nonempty = true,
        "foreground" => words.foreground = true,
        "source" => words.source = value,
        "config" => words.config = value,
        // Without a value it is the generic word for synchronous writes.
        "sync" if value.is_none() => generic.push(name),
        name if known_key(name).is_some() => put_own(&mut words.layer, name, value)?,
        _ => generic.push(String::from_utf8_lossy(word).into_owned()),
    }
    Ok(())
}

fn put_own(layer: &mut Layer, name: &str, value: Option<OsString>) -> Result<()> {
    let Some(key) = known_key(name) else { return Ok(()) };
    let empty = value.as_deref().is_none_or(OsStr::is_empty);
    if empty && !SWITCHES.contains(&key) {
        return Err(fail::usage(format!("-o {key} needs a value: {key}=...")));
    }
    layer.put(key, Some(value.unwrap_or_else(|| "true".into())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(text: &str) -> Result<Words> {
        parse(&[text.into()], false)
    }

    #[test]
    fn our_own_words_become_settings() {
        let words = read("cache-size=10GiB,allow_other,ro,nonempty,sync=share").unwrap();
        let settings = Settings::resolve(&[words.layer]).unwrap();
        assert_eq!(settings.cache_size, Some(10 << 30));
        assert_eq!(settings.allow_other, Some(true));
        assert!(settings.read_only && settings.sync_share && words.nonempty);
    }

    #[test]
    fn generic_words_are_dropped_or_handed_on() {
        let words =
            read("rw,_netdev,nofail,x-systemd.automount,x-gvfs-show,nosuid,noatime,defaults")
                .unwrap();
        assert_eq!(words.extra, ["nosuid", "noatime"]);
        assert!(words.layer.values.is_empty());
        let words = read("source=dir:/srv/share,comment=mine").unwrap();
        assert_eq!(words.source, Some("dir:/srv/share".into()));
    }

    #[test]
    fn unknown_words_are_named() {
        let error = read("cache-sise=1G").unwrap_err();
        assert!(error.to_string().contains("'cache-sise'"), "{error}");
        assert_eq!(fail::exit_code(&error), 2);
        assert!(parse(&["cache-sise=1G".into()], true).is_ok());
        assert!(read("cache-size").unwrap_err().to_string().contains("needs a value"));
    }
}
