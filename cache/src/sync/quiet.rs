//! Edits that the content part of a version does not show: as many bytes, and the time set back
//! (`touch -r`, encrypted containers). The object part moves with them, and with a new mode too.

use super::plan::View;
use crate::attr::Notice;
use crate::error::Result;
use crate::node::Node;
use crate::vfs::Vfs;
use covefs_remote::{Kind, Remote};

impl Vfs {
    /// Looks at the share's files that a step is about to change (S5); whether one was another than
    /// the plan believed.
    pub(super) async fn looks_again(&self, view: &View) -> Result<bool> {
        let mut other = false;
        for node in std::iter::once(&view.node).chain(&view.occupant) {
            other |= node.kind == Kind::File && self.is_other(node).await?;
        }
        Ok(other)
    }

    async fn is_other(&self, before: &Node) -> Result<bool> {
        let Some(path) = self.tree().base_path(before.ino)? else { return Ok(false) };
        // What there is to complain of, the step itself will hear.
        let Ok(found) = self.remote.stat(&path).await else { return Ok(false) };
        let mut tree = self.tree();
        let node = tree.get(before.ino)?.filter(|node| node.base == before.base);
        let Some((mut node, mut base)) = node.and_then(|node| Some((node.clone(), node.base?)))
        else {
            return Ok(true);
        };
        if !base.version.same_content(&found.version) || base.version == found.version {
            return Ok(false);
        }
        if node.is_in_doubt(&found) {
            tracing::info!(%path, "written over on the share, its time set back");
            // From here on it goes as with any edit made there.
            base.version = base.version.in_doubt();
            node.base = Some(base);
        } else {
            base.version = found.version;
            node.base = Some(base);
            self.set_attrs_of(&mut node, &found);
            if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
                file.lock().base = Some(found.version);
            }
        }
        let notice = Notice::Attributes(node.ino);
        self.commit(&mut tree, &[node], Vec::new(), true)?;
        drop(tree);
        self.notify(notice);
        Ok(true)
    }
}
