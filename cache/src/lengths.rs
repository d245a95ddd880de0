//! How long and how deep a path may be on the share: found out when a name is made or moved, not when
//! it is uploaded (U7).

use crate::attr::Ino;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::node::Node;
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Kind, PathLength, Remote};

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
        let above = dir.length();
        let ours = PathLength { units: limits::OUR_NAME_UNITS, depth: 1 };
        let mut length = above + PathLength::of(name).max(ours);
        if let Some(moving) = moving.filter(|moving| moving.kind == Kind::Dir) {
            length = length.max(above + PathLength::of(name) + below(tree, moving.ino)?.max(ours));
        }
        match length.fits(most) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NameTooLong, "use a path as long as this")),
        }
    }
}

/// The longest and the deepest path below a directory, as far as a call has the time to look.
fn below(tree: &mut Tree, dir: Ino) -> Result<PathLength> {
    let mut longest = PathLength::default();
    let mut left = vec![(dir, PathLength::default())];
    let mut looked = 0;
    while let Some((dir, above)) = left.pop() {
        for node in tree.children(dir, None, limits::SCAN)? {
            let name = node.place.as_ref().map_or(&[][..], |place| &place.name);
            let length = above + PathLength::of(name);
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
