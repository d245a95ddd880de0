//! A program that holds a file open, or a mapping of it, for as long as the test wants.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/passthrough/holder.py");

pub struct Holder {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    /// Has the file open, to read (`r`) or to write too (`rw`).
    pub fn open(how: &str, path: &Path) -> Holder {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "python3", PROGRAM]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let words = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Holder { child, words, answers };
        holder.does(&format!("open {how} {}", path.display()));
        holder
    }

    /// The same, and a mapping; the file is closed again.
    pub fn map(how: &str, path: &Path) -> Holder {
        let mut holder = Holder::open(how, path);
        holder.does(&format!("map {how}"));
        holder.does("close");
        holder
    }

    pub fn says(&mut self, words: &str) -> String {
        writeln!(self.words, "{words}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    pub fn does(&mut self, words: &str) {
        assert_eq!(self.says(words), "done", "{words}");
    }

    /// The checksum of all that the mapping shows.
    pub fn sum(&mut self) -> u32 {
        let answer = self.says("sum");
        answer.parse().unwrap_or_else(|_| panic!("not a sum: {answer}"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
