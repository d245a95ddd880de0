//! Drives of an Azure file share and of an SMB share at the other end of a long line: 40 ms there and
//! back, 1 Gbit/s, the emulator or Samba behind it, connections warm. One table for each: what each
//! step took, and its requests, which Samba does not count.
//!
//! `cargo bench --bench link`; `COVEFS_BENCH_SHARE=smb` or `azure` for one of them. Samba as root only.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod line;
#[path = "../../remote/tests/samba/mod.rs"]
mod samba;

use azure_files_emulator::{Config, Emulator};
use common::{Drive, pattern, succeed};
use samba::{PLAIN, Samba};
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SHARE: &str = "docs";
const ROUND_TRIP: Duration = Duration::from_millis(40);
const BYTES_PER_SECOND: f64 = 1e9 / 8.0;

const BIG_BYTES: usize = 200_000_000;
const DIRS: usize = 200;
const FILES_EACH: usize = 50;
const SMALL_FILES: usize = 1000;
const SMALL_BYTES: usize = 4096;
/// Directories in each of another one, files beside them, and levels: as source code lies.
const NESTED: (usize, usize, usize) = (5, 8, 3);
const NESTED_FILES: usize = (1 + 5 + 25 + 125) * 8;

/// No step takes longer, not even one request after the other.
const STEP: Duration = Duration::from_secs(600);

fn main() {
    // `cargo test --benches` only wants to know that it can run.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let only = std::env::var("COVEFS_BENCH_SHARE").unwrap_or_default();
    if only != "smb" {
        azure();
    }
    if only != "azure" {
        smb();
    }
}

fn azure() {
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share(SHARE);
    fill(&|path, bytes| server.write(SHARE, path, bytes));
    let far = line::open(server.address(), ROUND_TRIP, BYTES_PER_SECOND);
    let login = server.connection_string().replace(&server.address().to_string(), &far.to_string());
    let share = format!("azfiles://{}/{SHARE}", server.account());
    let environment = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    let args = ["--cache-size", "2GiB", "--freshness", "10s"];
    let drive = Drive::over("link", &share, &environment, &args);
    measure("azure", drive, &|| server.reset_counts(), &|| {
        server.counts().values().sum::<u64>().to_string()
    });
}

fn smb() {
    let Some(server) = Samba::start() else { return };
    let disk = server.disk(PLAIN);
    fill(&|path, bytes| {
        let path = disk.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    });
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
    let far = line::open(near, ROUND_TRIP, BYTES_PER_SECOND);
    let share = format!("smb://127.0.0.1:{}/{PLAIN}", far.port());
    let login = server.login_file();
    let args = ["--credentials", login.to_str().unwrap()];
    let args = [&args[..], &["--cache-size", "2GiB", "--freshness", "10s"]].concat();
    measure("smb", Drive::over("link-smb", &share, &[], &args), &|| {}, &String::new);
}

/// One table; `begin` and `end` count requests.
fn measure(name: &str, mut drive: Drive, begin: &dyn Fn(), end: &dyn Fn() -> String) {
    drive.start();
    println!("{name:<44} {:>10} {:>16} {:>9}", "time", "rate", "requests");
    let show = |what: &str, (count, unit): (usize, &str), step: &dyn Fn()| {
        begin();
        let start = Instant::now();
        step();
        let seconds = start.elapsed().as_secs_f64();
        let (requests, rate) = (end(), format!("{:.1} {unit}/s", count as f64 / seconds));
        println!("{what:<44} {:>7.0} ms {rate:>16} {requests:>9}", seconds * 1e3);
    };
    let mnt = drive.mnt.clone();
    steps(&drive, &mnt, &show);
    drive.unmount();
}

/// What a step is called, what it counts, and the step.
type Show<'a> = &'a dyn Fn(&str, (usize, &str), &dyn Fn());

fn steps(drive: &Drive, mnt: &Path, show: Show<'_>) {
    succeed(Command::new("ls").arg(mnt), STEP);
    show("first 4 KiB of a cold file", (1, "files"), &|| {
        File::open(mnt.join("first")).unwrap().read_exact(&mut [0; 4096]).unwrap();
    });
    show("200 MB read in order, cold", (BIG_BYTES / 1_000_000, "MB"), &|| {
        let mut file = File::open(mnt.join("big")).unwrap();
        let mut buffer = vec![0; 128 << 10];
        while file.read(&mut buffer).unwrap() > 0 {}
    });
    show("find over 200 directories of 50 files", (DIRS * FILES_EACH, "files"), &|| {
        succeed(Command::new("find").arg(mnt.join("tree")), STEP);
    });
    show("1,000 files of 4 KiB read in order, cold", (SMALL_FILES, "files"), &|| {
        for entry in fs::read_dir(mnt.join("small")).unwrap() {
            assert_eq!(fs::read(entry.unwrap().path()).unwrap().len(), SMALL_BYTES);
        }
    });
    show("find through 156 nested directories", (NESTED_FILES, "files"), &|| {
        succeed(Command::new("find").arg(mnt.join("listed")), STEP);
    });
    show("grep -r through 156 others, files of 2.5 kB", (NESTED_FILES, "files"), &|| {
        let mut grep = Command::new("grep");
        grep.arg("-rc").arg("text of").arg(mnt.join("source"));
        succeed(&mut grep, STEP);
    });
    show("1,000 new files of 4 KiB until uploaded", (SMALL_FILES, "files"), &|| {
        fs::create_dir(mnt.join("new")).unwrap();
        for number in 0..SMALL_FILES {
            fs::write(mnt.join(format!("new/{number}")), pattern(number as u64, SMALL_BYTES))
                .unwrap();
        }
        drive.sync();
    });
}

/// What the share holds before it is mounted.
fn fill(write: &dyn Fn(&str, &[u8])) {
    write("first", &pattern(1, 1 << 20));
    write("big", &pattern(2, BIG_BYTES));
    for dir in 0..DIRS {
        for file in 0..FILES_EACH {
            write(&format!("tree/{dir:03}/{file:02}"), b"");
        }
    }
    for file in 0..SMALL_FILES {
        write(&format!("small/{file:04}"), &pattern(file as u64, SMALL_BYTES));
    }
    ["listed", "source"].iter().for_each(|top| fill_nested(write, top, NESTED.2));
}

fn fill_nested(write: &dyn Fn(&str, &[u8]), dir: &str, levels: usize) {
    let text = "text of a file\n".repeat(170);
    (0..NESTED.1).for_each(|file| write(&format!("{dir}/f{file}.c"), text.as_bytes()));
    if levels > 0 {
        (0..NESTED.0).for_each(|below| fill_nested(write, &format!("{dir}/d{below}"), levels - 1));
    }
}
