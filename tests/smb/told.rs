//! What others do to the share shows on the drive: at once where the server tells of it (X7).

use super::*;
use common::try_until;
use std::io::Read;
use std::time::Instant;

/// A slow machine gets what is over a second.
const SOON: Duration = Duration::from_secs(30);

/// What the server tells of would have shown by then.
const QUIET: Duration = Duration::from_secs(5);

/// The end of a drive that waits for nobody.
const UNMOUNT: Duration = Duration::from_secs(10);

/// A drive that would show what others do after an hour.
fn slow_site(name: &str) -> Option<Site> {
    let mut site = Site::over(name, PLAIN)?;
    ["--freshness", "1h"].iter().for_each(|argument| site.drive.add_argument(argument));
    fs::create_dir_all(site.server.disk(PLAIN).join("dir/sub")).unwrap();
    Some(site)
}

/// Everything is listed, and from here on the server tells.
fn begin(site: &Site) {
    until("the server tells", FRESH, || site.drive.status()["watched"] == true);
    for dir in ["", "dir", "dir/sub"] {
        fs::read_dir(site.at(dir)).unwrap().for_each(drop);
    }
}

fn edits_show(site: &Site, round: u32) {
    let reads = |name: &str, bytes: &[u8]| fs::read(site.at(name)).is_ok_and(|it| it == bytes);
    let soon = |what: &str, holds: &dyn Fn() -> bool| {
        let asked = Instant::now();
        until(what, SOON, holds);
        eprintln!("{what}: after {:?}", asked.elapsed());
    };
    let edited = format!("edited {round}");
    site.server.put(PLAIN, "dir\\f", edited.as_bytes());
    soon("an edit", &|| reads("dir/f", edited.as_bytes()));
    site.server.put(PLAIN, "dir\\sub\\new", b"new");
    soon("a new file", &|| reads("dir/sub/new", b"new"));
    site.server.smbclient(PLAIN, "rename dir\\sub\\new dir\\moved");
    soon("a rename", &|| reads("dir/moved", b"new") && !site.at("dir/sub/new").exists());
    site.server.smbclient(PLAIN, "rm dir\\moved");
    soon("a removal", &|| !site.at("dir/moved").exists());
    let name = format!("disk{round}");
    fs::write(site.server.disk(PLAIN).join(&name), b"there").unwrap();
    soon("a file made on the server's disk, in the root", &|| reads(&name, b"there"));
}

/// rule S5: a file that somebody has just written is looked at again once its time can be told from the
/// next one's. Whoever is reading it goes on: it is the same file.
#[test]
fn what_was_just_written_there_is_read_to_its_end() {
    let Some(site) = Site::mounted("just-written") else { return };
    let bytes = pattern(3, 6 << 20);
    fs::write(site.server.disk(PLAIN).join("new"), &bytes).unwrap();
    until("it shows", FRESH, || site.at("new").exists());
    let mut file = fs::File::open(site.at("new")).unwrap();
    let mut read = vec![0; 4096];
    file.read_exact(&mut read).unwrap();
    let begin = Instant::now();
    until("it is no longer new", FRESH, || {
        let names = fs::read_dir(site.at("")).unwrap();
        names.for_each(|entry| drop(fs::metadata(entry.unwrap().path())));
        begin.elapsed() > Duration::from_secs(4)
    });
    file.read_to_end(&mut read).unwrap();
    assert!(read == bytes, "other bytes");
    drop(file);
    site.assert_clean();
}

#[test]
fn what_other_clients_do_shows_at_once() {
    let Some(mut site) = slow_site("told") else { return };
    fs::write(site.server.disk(PLAIN).join("dir/f"), b"old").unwrap();
    site.drive.start();
    begin(&site);
    assert_eq!(fs::read(site.at("dir/f")).unwrap(), b"old");
    for round in 0..2 {
        edits_show(&site, round);
        // A server that was away tells again.
        site.server.kill();
        until("it does not tell", FRESH, || site.drive.status()["watched"] == false);
        site.server.run();
        site.drive.wait_online(true);
        begin(&site);
    }
    let asked = Instant::now();
    site.drive.unmount();
    assert!(asked.elapsed() < UNMOUNT, "a watch held up the unmount: {:?}", asked.elapsed());
}

#[test]
fn edits_on_the_servers_disk_show_within_the_bound() {
    let Some(mut site) = Site::over("disk", PLAIN) else { return };
    let deep = site.server.disk(PLAIN).join("dir/deep");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), b"old").unwrap();
    site.drive.start();
    until("the server tells", FRESH, || site.drive.status()["watched"] == true);
    let reads = |bytes: &[u8]| fs::read(site.at("dir/deep/f")).is_ok_and(|it| it == bytes);
    assert!(reads(b"old"));
    fs::write(deep.join("f"), b"edited").unwrap();
    until("an edit", FRESH, || reads(b"edited"));
    fs::remove_file(deep.join("f")).unwrap();
    until("a removal", FRESH, || !site.at("dir/deep/f").exists());
}

#[test]
fn a_storm_of_our_own_uploads_lists_nothing() {
    const COUNT: usize = 300;
    let Some(mut site) = slow_site("storm") else { return };
    site.drive.start();
    begin(&site);
    let requests = || site.drive.status()["remote"]["requests"].as_u64().unwrap();
    let before = requests();
    for number in 0..COUNT {
        fs::write(site.at(&format!("dir/n{number}")), number.to_string()).unwrap();
    }
    site.drive.sync();
    // What comes back of them has come.
    site.server.put(PLAIN, "dir\\last", b"x");
    until("a change of somebody else", SOON, || site.at("dir/last").exists());
    let spent = requests() - before;
    eprintln!("{spent} requests for {COUNT} new files");
    assert!(spent < COUNT as u64 + 100, "{spent} requests for {COUNT} new files");
}

#[test]
fn a_drive_that_does_not_watch_keeps_to_the_bound() {
    let Some(mut site) = slow_site("untold") else { return };
    ["--watch", "off"].iter().for_each(|argument| site.drive.add_argument(argument));
    site.drive.start();
    fs::read_dir(site.at("dir")).unwrap().for_each(drop);
    assert!(!site.at("dir/f").exists());
    site.server.put(PLAIN, "dir\\f", b"x");
    assert!(!try_until(QUIET, || site.at("dir/f").exists()), "it watches all the same");
    assert_eq!(site.drive.status()["watched"], false);
}
