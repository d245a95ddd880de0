//! How long and how deep a path may be on the share: found out when a name is made or moved, not when
//! it is uploaded (U7).

use crate::attr::Ino;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::node::Node;
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Kind, Remote};
use std::ops::Add;

/// What a path takes of what the share allows.
#[derive(Clone, Copy, Default)]
struct Length {
    /// UTF-16 units, a slash before each name included.
    units: usize,
    /// Names.
    depth: usize,
}

impl Length {
    fn of(name: &[u8]) -> Length {
        Length { units: 1 + String::from_utf8_lossy(name).encode_utf16().count(), depth: 1 }
    }

    fn max(self, other: Length) -> Length {
        let (units, depth) = (self.units.max(other.units), self.depth.max(other.depth));
        Length { units, depth }
    }
}

impl Add for Length {
    type Output = Length;

    fn add(self, other: Length) -> Length {
        Length { units: self.units + other.units, depth: self.depth + other.depth }
    }
}

impl Vfs {
    /// Refuses a place that is too long or too deep for the share, for what is made there or, with
    /// all that is known below it, moved there. A passing name of ours must fit there too (X2).
    pub(crate) fn check_length(
        &self,
        tree: &mut Tree,
        parent: Ino,
        name: &[u8],
        moving: Option<&Node>,
    ) -> Result<()> {
        let Some(most) = self.remote.limits().path_max else { return Ok(()) };
        let dir = tree.path(parent)?.unwrap_or_default();
        let above = dir.names().map(Length::of).fold(Length::default(), Add::add);
        let ours = Length { units: limits::OUR_NAME_UNITS, depth: 1 };
        let mut length = above + Length::of(name).max(ours);
        if let Some(moving) = moving.filter(|moving| moving.kind == Kind::Dir) {
            length = length.max(above + Length::of(name) + below(tree, moving.ino)?.max(ours));
        }
        match length.units > most.units || length.depth > most.depth {
            true => Err(Error::new(ErrorKind::NameTooLong, "use a path as long as this")),
            false => Ok(()),
        }
    }
}

/// The longest and the deepest path below a directory, as far as a call has the time to look.
fn below(tree: &mut Tree, dir: Ino) -> Result<Length> {
    let mut longest = Length::default();
    let mut left = vec![(dir, Length::default())];
    let mut looked = 0;
    while let Some((dir, above)) = left.pop() {
        for node in tree.children(dir, None, limits::SCAN)? {
            let name = node.place.as_ref().map_or(&[][..], |place| &place.name);
            let length = above + Length::of(name);
            longest = longest.max(length);
            if node.kind == Kind::Dir {
                left.push((node.ino, length));
            }
            looked += 1;
        }
        if looked > limits::LENGTHS {
            break;
        }
    }
    Ok(longest)
}
