//! Files whose last write is too recent for their mark to tell it from the next one (S5).

use super::rig::*;
use crate::attr::{Fh, Ino};
use crate::step::Asked;
use covefs_remote::fault::{Fault, Gate, Rule};
use std::time::Duration;

const SIZE: usize = 1 << 20;
/// By the clock of the test: nothing here takes long but what hangs.
const SOON: Duration = Duration::from_secs(20);

async fn read(rig: &Rig, fh: Fh) -> Vec<u8> {
    let reading = rig.vfs().read_cold(Asked::now(), fh, 0, SIZE);
    tokio::time::timeout(SOON, reading).await.expect("it waits for what is over").unwrap()
}

/// A file was written twice within a tick of the share's clock. Between the two somebody here began to
/// read it; a look at the share then made the open file begin again, and the request under way, for
/// the same mark, went on: it stored the old bytes, and they stayed for good.
#[test]
fn what_was_asked_for_before_an_open_file_began_again_is_dropped() {
    for landed in [0, 100_000, 700_000] {
        let (old, new) = (pattern(1, SIZE), pattern(2, SIZE));
        let rig = Rig::with(&[("f", old)]);
        rig.memory.set_young(&path("f"), true);
        let (fh, other) = (rig.open("f", READ).unwrap(), rig.open("f", READ).unwrap());
        let gate = Gate::new();
        let stall = Fault::Stall { bytes: landed, gate: gate.clone() };
        rig.remote.inject(Rule::new("read", stall).times(1));
        rig.wait(async {
            let change = async {
                gate.arrived(1).await;
                rig.memory.write_file_again(&path("f"), new.clone());
                rig.memory.set_young(&path("f"), false);
                rig.vfs().list_dir(Ino::ROOT).await.unwrap();
                // Nobody new waits for the old bytes.
                assert!(read(&rig, other).await == new, "old bytes for a new reader");
                gate.open();
            };
            let (bytes, ()) = tokio::join!(read(&rig, fh), change);
            assert!(bytes == new, "old bytes, or a mixture");
        });
        rig.pause(SOON);
        [fh, other].into_iter().for_each(|fh| rig.close(fh));
        assert!(rig.read("f").unwrap() == new, "old bytes were stored");
        // 16 blocks, and what had been asked for.
        assert_eq!(rig.remote.requests("read"), 2);
    }
}
