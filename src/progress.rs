//! The progress bar of `sync --wait` and `hydrate`: on a terminal only.

use covefs_cache::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar on standard error; without a terminal it shows nothing.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Counts bytes, or files and directories.
    pub(crate) fn new(what: &'static str, bytes: bool) -> Bar {
        let bar = ProgressBar::no_length();
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        bar.set_draw_target(target);
        let template = if bytes {
            "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}"
        } else {
            "{msg} [{wide_bar}] {human_pos}/{human_len}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Bar(bar)
    }

    /// How far it is.
    pub(crate) fn show(&mut self, now: Progress) {
        self.0.set_length(now.total);
        self.0.set_position(now.done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}
