//! Faults on request: which calls go wrong, how, how often. The choice is by a seeded generator,
//! so that a run can be repeated.

use crate::operation::Operation;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error answer in place of doing what was asked.
    Answer {
        /// HTTP status.
        status: u16,
        /// The protocol's code, `ServerBusy` for example.
        code: String,
        /// Seconds in `Retry-After`, if that is to be there.
        retry_after: Option<u32>,
    },
    /// The connection ends before anything is done.
    Refuse,
    /// What was asked is done, and the connection ends without an answer.
    LoseAnswer,
    /// What was asked is done, and the connection ends after so many bytes of the answer's body.
    CutBody(u64),
    /// What was asked is done, and nothing follows so many bytes of the answer's body, until the
    /// client hangs up or the server stops.
    Stall(u64),
    /// What was asked is done after that time.
    Delay(Duration),
    /// What was asked is done, and answered after that time.
    DelayAnswer(Duration),
}

/// Which requests a fault befalls.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Only these; any if empty.
    pub operations: Vec<Operation>,
    /// Only paths (decoded, from the share on: `docs/dir/file`) that contain this.
    pub path: String,
    /// How likely, 0 to 1.
    pub probability: f64,
    /// So many that match go well first.
    pub skip: u64,
    /// Not more often than this.
    pub count: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// The fault befalls every request, until it is narrowed down.
    pub fn new(fault: Fault) -> Rule {
        let (operations, path) = (Vec::new(), String::new());
        Rule { operations, path, probability: 1.0, skip: 0, count: None, fault }
    }

    /// A storm of 503 with `Retry-After`.
    pub fn busy(retry_after: Option<u32>) -> Rule {
        Rule::new(Fault::Answer { status: 503, code: "ServerBusy".to_owned(), retry_after })
    }

    /// Only this call; may be said several times.
    pub fn on(mut self, operation: Operation) -> Rule {
        self.operations.push(operation);
        self
    }

    /// Only paths that contain `part`.
    pub fn path(self, part: &str) -> Rule {
        Rule { path: part.to_owned(), ..self }
    }

    /// Not more often than `count` times.
    pub fn times(self, count: u64) -> Rule {
        Rule { count: Some(count), ..self }
    }

    /// After `skip` matching requests went well.
    pub fn after(self, skip: u64) -> Rule {
        Rule { skip, ..self }
    }

    /// With that probability.
    pub fn with_probability(self, probability: f64) -> Rule {
        Rule { probability, ..self }
    }
}

/// Names a rule that was added.
pub type RuleId = u64;

struct Armed {
    id: RuleId,
    rule: Rule,
    matched: u64,
    fired: u64,
}

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    added: u64,
    random: u64,
}

/// The faults of a server; clones are of the same server.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds a rule. Where several match, the one added first that fires decides.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.lock();
        state.added += 1;
        let id = state.added;
        state.rules.push(Armed { id, rule, matched: 0, fired: 0 });
        id
    }

    /// Takes a rule away.
    pub fn remove(&self, id: RuleId) {
        self.lock().rules.retain(|armed| armed.id != id);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Begins the random choices anew.
    pub fn seed(&self, seed: u64) {
        self.lock().random = seed;
    }

    /// How often a rule's fault has befallen a request.
    pub fn fired(&self, id: RuleId) -> u64 {
        let state = self.lock();
        state.rules.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.fired)
    }

    /// All rules, as [`Rule`]'s text says them, with how often they fired.
    pub fn list(&self) -> Vec<(RuleId, String, u64)> {
        let state = self.lock();
        state.rules.iter().map(|armed| (armed.id, armed.rule.to_string(), armed.fired)).collect()
    }

    /// What befalls this request.
    pub fn choose(&self, operation: Operation, path: &str) -> Option<Fault> {
        let state = &mut *self.lock();
        for armed in &mut state.rules {
            let rule = &armed.rule;
            let of_kind = rule.operations.is_empty() || rule.operations.contains(&operation);
            if !of_kind || !path.contains(&rule.path) {
                continue;
            }
            armed.matched += 1;
            let over = rule.count.is_some_and(|count| armed.fired >= count);
            if armed.matched <= rule.skip || over {
                continue;
            }
            // SplitMix64: short, and good enough to draw lots.
            state.random = state.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = state.random;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            if ((word >> 11) as f64) < rule.probability * (1u64 << 53) as f64 {
                armed.fired += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Answer { status, code, retry_after } => {
                write!(f, "answer={status}/{code}")?;
                if let Some(seconds) = retry_after {
                    write!(f, " retry-after={seconds}")?;
                }
            }
            Fault::Refuse => write!(f, "refuse")?,
            Fault::LoseAnswer => write!(f, "lose-answer")?,
            Fault::CutBody(bytes) => write!(f, "cut-body={bytes}")?,
            Fault::Stall(bytes) => write!(f, "stall={bytes}")?,
            Fault::Delay(time) => write!(f, "delay={}", time.as_millis())?,
            Fault::DelayAnswer(time) => write!(f, "delay-answer={}", time.as_millis())?,
        }
        for operation in &self.operations {
            write!(f, " on={}", operation.name())?;
        }
        if !self.path.is_empty() {
            write!(f, " path={}", self.path)?;
        }
        if self.probability < 1.0 {
            write!(f, " probability={}", self.probability)?;
        }
        if self.skip > 0 {
            write!(f, " skip={}", self.skip)?;
        }
        self.count.map_or(Ok(()), |count| write!(f, " count={count}"))
    }
}

impl FromStr for Rule {
    type Err = String;

    /// Words as `answer=503/ServerBusy retry-after=2 on=PutRange path=docs/ probability=0.1
    /// skip=3 count=5`; the fault is one of `answer=STATUS[/CODE]`, `refuse`, `lose-answer`,
    /// `cut-body=BYTES`, `stall=BYTES`, `delay=MS`, `delay-answer=MS`.
    fn from_str(text: &str) -> Result<Rule, String> {
        let mut rule = Rule::new(Fault::Refuse);
        let (mut fault, mut wait) = (None, None);
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<u64>().map_err(|_| format!("{word}: not a number"));
            match name {
                "on" => {
                    let operation = Operation::parse(value);
                    rule.operations.push(operation.ok_or(format!("{value}: no such call"))?);
                }
                "path" => rule.path = value.to_owned(),
                "probability" => {
                    let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                    rule.probability = share.ok_or(format!("{word}: not from 0 to 1"))?;
                }
                "skip" => rule.skip = number()?,
                "count" => rule.count = Some(number()?),
                "retry-after" => {
                    let seconds = u32::try_from(number()?).map_err(|error| error.to_string())?;
                    wait = Some(seconds);
                }
                _ => fault = Some(parse_fault(name, value)?),
            }
        }
        rule.fault = fault.ok_or("no fault is named")?;
        if let Fault::Answer { retry_after, .. } = &mut rule.fault {
            *retry_after = wait;
        }
        Ok(rule)
    }
}

fn parse_fault(name: &str, value: &str) -> Result<Fault, String> {
    let number = || value.parse::<u64>().map_err(|_| format!("{name}={value}: not a number"));
    Ok(match name {
        "answer" => {
            let (status, code) = value.split_once('/').unwrap_or((value, "ServerBusy"));
            let status = status.parse().ok().filter(|status| (400..600).contains(status));
            let status = status.ok_or(format!("{value}: not an error's status"))?;
            Fault::Answer { status, code: code.to_owned(), retry_after: None }
        }
        "refuse" => Fault::Refuse,
        "lose-answer" => Fault::LoseAnswer,
        "cut-body" => Fault::CutBody(number()?),
        "stall" => Fault::Stall(number()?),
        "delay" => Fault::Delay(Duration::from_millis(number()?)),
        "delay-answer" => Fault::DelayAnswer(Duration::from_millis(number()?)),
        _ => return Err(format!("{name}: no such word")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_matched_skipped_and_counted() {
        let faults = Faults::default();
        let rule = Rule::busy(Some(1)).on(Operation::PutRange).path("docs/a").after(1).times(2);
        let id = faults.add(rule);
        let hit = |operation, path| faults.choose(operation, path).is_some();
        assert!(!hit(Operation::GetFile, "docs/a"));
        assert!(!hit(Operation::PutRange, "docs/b"));
        let hits: Vec<bool> = (0..4).map(|_| hit(Operation::PutRange, "docs/a/x")).collect();
        assert_eq!(hits, [false, true, true, false]);
        assert_eq!(faults.fired(id), 2);
        faults.remove(id);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_same_seed_draws_the_same_lots() {
        let draw = |seed| {
            let faults = Faults::default();
            faults.seed(seed);
            faults.add(Rule::new(Fault::LoseAnswer).with_probability(0.3));
            (0..200).map(|_| faults.choose(Operation::GetFile, "x").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        let hits = draw(5).iter().filter(|hit| **hit).count();
        assert!((30..90).contains(&hits), "{hits} of 200 at 0.3");
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        let texts = [
            "answer=503/ServerBusy retry-after=2 on=PutRange path=docs/ probability=0.5 skip=3 count=5",
            "refuse on=GetFile on=HeadFile",
            "lose-answer count=1",
            "cut-body=100",
            "stall=0",
            "delay=20",
            "delay-answer=20",
        ];
        for text in texts {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for bad in
            ["", "on=PutRange", "answer=200", "stall=x", "on=Nothing refuse", "probability=2"]
        {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
