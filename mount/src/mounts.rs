//! The mount table's lines. Pure; `detach` reads the table.

use std::path::PathBuf;

/// A device's number, as in `/sys/class/bdi/MAJOR:MINOR`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Device {
    /// 0 for what is no disk.
    pub major: u32,
    /// Which one.
    pub minor: u32,
}

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountInfo {
    /// Where.
    pub mountpoint: PathBuf,
    /// `fuse.covefs`, `ext4`, ...
    pub fstype: String,
    /// What the one who mounted called it.
    pub source: String,
    /// Of the mount and of the filesystem.
    pub options: Vec<String>,
    /// `st_dev` of what is in it, where the table says it.
    pub device: Option<Device>,
}

/// The type of ours in the mount table.
const OURS: &str = "fuse.covefs";

impl MountInfo {
    /// One of ours, where there is no table that has it.
    pub fn of_ours(mountpoint: impl Into<PathBuf>, source: impl Into<String>) -> Self {
        let (mountpoint, source) = (mountpoint.into(), source.into());
        MountInfo { mountpoint, fstype: OURS.into(), source, options: Vec::new(), device: None }
    }

    /// Whether it is a mount of ours, of this or another process, alive or dead.
    pub fn is_covefs(&self) -> bool {
        self.fstype == OURS
    }
}

/// The lines of `/proc/self/mountinfo`, in order; ones that make no sense are left out.
#[cfg(all(unix, any(target_os = "linux", test)))]
pub(crate) fn parse_mountinfo(table: &[u8]) -> Vec<MountInfo> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mountpoint rw,noatime master:1 - ext4 /dev/source rw,errors=continue`
#[cfg(all(unix, any(target_os = "linux", test)))]
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let mut fields = line.split(|byte| *byte == b' ');
    let device = parse_device(fields.nth(2)?);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mount_options = fields.next()?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = text(fields.next()?);
    let source = text(fields.next()?);
    let options = [mount_options, fields.next().unwrap_or_default()]
        .iter()
        .flat_map(|list| list.split(|byte| *byte == b','))
        .filter(|option| !option.is_empty())
        .map(text)
        .collect();
    Some(MountInfo { mountpoint, fstype, source, options, device })
}

#[cfg(all(unix, any(target_os = "linux", test)))]
fn parse_device(field: &[u8]) -> Option<Device> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(all(unix, any(target_os = "linux", test)))]
fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Blank, tab, newline, backslash and # stand there as a backslash and three octal digits.
#[cfg(all(unix, any(target_os = "linux", test)))]
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let table = b"\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
40 22 0:45 / /mnt/my\\040share rw,nosuid,nodev - fuse.covefs a\\134b rw,user_id=0\n\
41 22 0:46 / /x rw shared:2 master:1 - tmpfs  rw\n";
        let found = parse_mountinfo(table);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].fstype, "ext4");
        assert_eq!(found[0].device, Some(Device { major: 254, minor: 1 }));
        assert_eq!(found[0].options, ["rw", "relatime", "rw", "errors=remount-ro"]);
        assert_eq!(found[1].mountpoint, PathBuf::from("/mnt/my share"));
        assert_eq!(found[1].source, "a\\b");
        assert!(found[1].is_covefs() && !found[0].is_covefs());
        assert_eq!(found[2].source, "");
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(parse_mountinfo(b""), []);
        assert_eq!(parse_mountinfo(b"\n\n1 2\n1 2 0:1 / /a rw\n1 2 0:1 / /a rw - ext4"), []);
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescape(b"a\\040b\\011\\012\\134\\043"), b"a b\t\n\\#");
        assert_eq!(unescape(b"\\"), b"\\");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999\\400"), b"\\999\\400");
        assert_eq!(unescape("\u{e9}\\303\\251".as_bytes()), "\u{e9}\u{e9}".as_bytes());
    }
}
