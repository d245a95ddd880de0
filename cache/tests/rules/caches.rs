//! Whole cache directories: copied to another machine, and thrown away.

use super::*;

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn cache_id(dir: &std::path::Path) -> String {
    let json = std::fs::read(dir.join("cache.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["cache_id"].as_str().unwrap().to_owned()
}

/// rule X2: a cloned machine is another site. It brings what the first had not uploaded, and believes nothing
/// that is clean.
#[test]
fn a_copied_cache_goes_on_as_another_site() {
    let mut rig = Rig::with(|memory, config| {
        memory.write_file(&path("old"), pattern(1, 10 * BLOCK));
        config.debounce = Duration::from_secs(3600);
    });
    same(&rig.read_in("old"), &pattern(1, 10 * BLOCK));
    rig.save("new", b"only here").unwrap();
    rig.stop();
    let first = rig.config.cache_dir.clone();
    let copy = first.with_file_name("copy");
    copy_dir(&first, &copy);
    rig.config.cache_dir = copy.clone();
    rig.start();
    assert_ne!(cache_id(&first), cache_id(&copy));
    rig.remote.offline(true);
    assert!(rig.read("old").is_err(), "clean bytes of a copy are not believed");
    rig.remote.offline(false);
    rig.until("the share is back", |rig| rig.vfs().status().online);
    rig.sync();
    assert_eq!(rig.there("new").unwrap(), b"only here");
    same(&rig.read("old").unwrap(), &pattern(1, 10 * BLOCK));
}

#[test]
fn a_cache_that_is_thrown_away_costs_what_was_not_uploaded_and_nothing_else() {
    let mut rig = Rig::with(|memory, config| {
        memory.write_file(&path("old"), pattern(1, 10 * BLOCK));
        config.debounce = Duration::from_secs(3600);
    });
    rig.save("sent", b"on the share").unwrap();
    rig.sync();
    rig.save("new", b"only here").unwrap();
    assert_eq!(rig.vfs().status().uploads.waiting, 1);
    rig.crash(Index::Kept);
    std::fs::remove_dir_all(&rig.config.cache_dir).unwrap();
    rig.start();
    assert_eq!(rig.names("").unwrap(), ["old", "sent"]);
    same(&rig.read("old").unwrap(), &pattern(1, 10 * BLOCK));
    rig.edit("old", 0, b"mine").unwrap();
    rig.sync();
    assert_eq!(&rig.there("old").unwrap()[..4], b"mine");
    assert_eq!(rig.share_files(), ["old", "sent"]);
}
