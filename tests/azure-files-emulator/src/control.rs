//! Faults over HTTP, for a server that runs by itself: `/-/faults`.

use crate::call::{Call, Reply};
use crate::faults::Rule;
use crate::server::Server;
use bytes::Bytes;

fn text(status: u16, text: String) -> Reply {
    let reply = Reply::new(status).with("Content-Type", "text/plain");
    Reply { body: vec![Bytes::from(text + "\n")], ..reply }
}

/// The answer, if the request is for this: GET lists rules, POST adds one a line, DELETE takes
/// all away; PUT of `/-/clock` sets by how many seconds the server's clock is ahead.
pub fn answer(server: &Server, call: &Call) -> Option<Reply> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    if !server.config.control || path.first() != Some(&"-") {
        return None;
    }
    let body = String::from_utf8_lossy(&call.body).into_owned();
    Some(match (call.method.as_str(), &path[1..]) {
        ("GET", ["faults"]) => {
            let rules = server.faults.list().into_iter();
            let lines: Vec<String> =
                rules.map(|(id, rule, fired)| format!("{id}: {rule} (fired {fired})")).collect();
            text(200, lines.join("\n"))
        }
        ("POST", ["faults"]) => {
            let lines = body.lines().filter(|line| !line.trim().is_empty());
            match lines.map(str::parse).collect::<Result<Vec<Rule>, String>>() {
                Ok(rules) => {
                    let ids = rules.into_iter().map(|rule| server.faults.add(rule).to_string());
                    text(201, ids.collect::<Vec<_>>().join("\n"))
                }
                Err(error) => text(400, error),
            }
        }
        ("DELETE", ["faults"]) => {
            server.faults.clear();
            text(200, "none left".to_owned())
        }
        ("PUT", ["clock"]) => match body.trim().parse() {
            Ok(seconds) => {
                server.clock.set_skew_seconds(seconds);
                text(200, format!("{seconds} s ahead"))
            }
            Err(_) => text(400, "a number of seconds is needed".to_owned()),
        },
        _ => text(404, "/-/faults: GET, POST, DELETE; /-/clock: PUT".to_owned()),
    })
}
