//! The server by itself: `azure-files-emulator --help`.

use azure_files_emulator::{Config, DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY, Emulator, Rule};
use clap::Parser;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
A fault is a line of words: what goes wrong, then where and how often.
  answer=STATUS[/CODE] [retry-after=SECONDS] | refuse | lose-answer | cut-body=BYTES |
  stall=BYTES | delay=MS | delay-answer=MS
  on=CALL (PutRange, GetFile, ...; may be repeated)  path=PART  probability=0..1  skip=N  count=N
Examples:
  --fault 'answer=503/ServerBusy retry-after=2 on=PutRange probability=0.1'
  --fault 'lose-answer on=RenameFile count=1'
While it runs: curl -d 'stall=100000 on=GetFile count=1' ADDRESS/-/faults (GET lists, DELETE clears);
curl -T - ADDRESS/-/clock <<< 1200 sets the server's clock 20 minutes ahead.";

/// A test server that speaks the REST protocol of Azure Files.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Options {
    /// Where to listen; port 0 is any free one
    #[arg(long, default_value = "127.0.0.1:10004", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Keep the account in this directory; without it, in memory alone
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Serve HTTPS with a certificate made at start
    #[arg(long)]
    tls: bool,

    /// Write the certificate that clients must trust to this file (with --tls)
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,

    /// The account's name
    #[arg(long, default_value = DEVELOPMENT_ACCOUNT)]
    account: String,

    /// The account's key, base64; the default one is public
    #[arg(long, default_value = DEVELOPMENT_KEY, hide_default_value = true)]
    key: String,

    /// Make this share, if there is none of that name; may be repeated
    #[arg(long, value_name = "NAME")]
    share: Vec<String>,

    /// Deleted shares can be brought back
    #[arg(long)]
    soft_delete: bool,

    /// What goes wrong; may be repeated (see below)
    #[arg(long, value_name = "WORDS")]
    fault: Vec<Rule>,

    /// Begin the faults' random choices here
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Set the server's clock ahead (behind, if negative)
    #[arg(long, default_value_t = 0, value_name = "SECONDS", allow_negative_numbers = true)]
    clock_skew: i64,

    /// How long bearer tokens hold
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    token_seconds: i64,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("azure-files-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let mut config = Config {
        account: options.account,
        key: options.key,
        listen: options.listen,
        tls: options.tls,
        root: options.root,
        soft_delete: options.soft_delete,
        control: true,
        ..Config::default()
    };
    config.entra.token_seconds = options.token_seconds;
    let emulator = Emulator::start(config)?;
    for name in &options.share {
        emulator.create_share(name);
    }
    emulator.faults().seed(options.seed);
    for rule in options.fault {
        emulator.faults().add(rule);
    }
    emulator.set_clock_skew_seconds(options.clock_skew);
    if let (Some(file), Some(pem)) = (&options.ca_file, emulator.authority_pem()) {
        std::fs::write(file, pem)?;
    }
    let mut out = io::stdout();
    writeln!(out, "{}", emulator.connection_string())?;
    writeln!(out, "Listening on {}; stop with ctrl-c.", emulator.endpoint())?;
    if emulator.authority_pem().is_some() {
        writeln!(out, "AZURE_AUTHORITY_HOST={}", emulator.authority_host())?;
        writeln!(out, "AZURE_POD_IDENTITY_AUTHORITY_HOST={}", emulator.imds_host())?;
    }
    out.flush()?;
    emulator.run_until_signal()
}
