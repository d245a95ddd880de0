//! A drive as a service: there from the start of Windows on, for all users, ended in good order when the
//! service is stopped or the system shuts down.
//!
//! ```text
//!   service install --> service manager --> service run: start pending -> (drive usable) running
//!                            stop, shutdown -> stop pending -> (unmounted, journal durable) stopped
//! ```
//!
//! It runs as the system's own account, whose cache only administrators can look into. What ended it too
//! early is in a file that `install` reads, all else in the drive's log.

use crate::cli::{MountArgs, ServiceCommand};
use crate::fail;
use crate::plan;
use crate::relay::Relay;
use crate::run;
use crate::system::files;
use crate::system::mountpoint;
use crate::system::user::{User, system_local};
use crate::text::say;
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use windows_service::service::{
    ServiceAccess, ServiceControl, ServiceControlAccept, ServiceErrorControl, ServiceExitCode,
    ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_EXISTS,
};

/// A share may take its time to answer, and a journal to become durable.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a service.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `covefs service`. Returns the exit code.
pub(crate) fn run(what: &ServiceCommand, arguments: &[OsString]) -> Result<u8> {
    match what {
        ServiceCommand::Install(args) => install(args, arguments)?,
        ServiceCommand::Uninstall { mountpoint } => uninstall(mountpoint)?,
        ServiceCommand::Run(_) => return dispatch(arguments),
    }
    Ok(0)
}

/// The service of a drive: `covefs-X`.
fn name_of(mountpoint: &Path) -> Result<String> {
    let place = mountpoint::named(mountpoint)?;
    let plain = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol } else { '-' };
    let name: String = place.to_string_lossy().chars().map(plain).collect();
    Ok(format!("covefs-{}", name.trim_matches('-')))
}

fn install(args: &MountArgs, arguments: &[OsString]) -> Result<()> {
    plan::read(args, &User::current())?;
    check_for_service(args)?;
    let name = name_of(&args.mountpoint)?;
    let place = mountpoint::named(&args.mountpoint)?;
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access).map_err(refused)?;
    let info = ServiceInfo {
        name: name.clone().into(),
        display_name: format!("covefs {}", place.display()).into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: std::env::current_exe().context("find this program's file")?,
        launch_arguments: launch_arguments(args, arguments),
        dependencies: Vec::new(),
        account_name: None,
        account_password: None,
    };
    let access = ServiceAccess::START | ServiceAccess::QUERY_STATUS | ServiceAccess::CHANGE_CONFIG;
    let service = manager.create_service(&info, access).map_err(|error| match code_of(&error) {
        Some(ERROR_SERVICE_EXISTS) => anyhow::anyhow!(
            "there is a service {name} already; take it away first: covefs service uninstall {}",
            place.display()
        ),
        _ => refused(error),
    })?;
    let about = format!("Mounts {} at {}", args.share.to_string_lossy(), place.display());
    service.set_description(about).map_err(refused)?;
    let failed = failure_file(&name);
    // Of an earlier one of the same name.
    let _ = std::fs::remove_file(&failed);
    service.start::<&OsStr>(&[]).map_err(refused)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match service.query_status().map_err(refused)?.current_state {
            ServiceState::Running => break,
            ServiceState::Stopped => {
                let why = std::fs::read_to_string(&failed).unwrap_or_default();
                bail!(
                    "the service {name} is installed and ended at once: {}",
                    if why.is_empty() { "the event log may say why" } else { why.trim() }
                );
            }
            _ if Instant::now() > deadline => {
                bail!("the service {name} is installed and not running yet; `sc query {name}`")
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
    say!("the service {name} mounts {} whenever Windows starts", place.display());
    Ok(())
}

/// A service has neither the variables nor the directory of who installs it.
fn check_for_service(args: &MountArgs) -> Result<()> {
    let dir = args.share.as_encoded_bytes().strip_prefix(b"dir:");
    if dir.is_some_and(|path| !Path::new(&*files::name(path)).is_absolute()) {
        return Err(fail::usage("dir: a service needs the whole path, like dir:C:\\..."));
    }
    if args.credentials.is_none() && dir.is_none() {
        return Err(fail::usage(
            "a service does not know your login: name a file with it, --credentials FILE",
        ));
    }
    let paths = [
        ("--credentials", &args.credentials),
        ("--cache-dir", &args.cache_dir),
        ("--log", &args.log),
        ("--config", &args.config),
    ];
    for (flag, path) in paths {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(fail::usage(format!(
                "{flag}: a service needs the whole path, like C:\\..."
            )));
        }
    }
    Ok(())
}

/// `service install ...` becomes `service run ...`; a `--` of the user's ends the options.
fn launch_arguments(args: &MountArgs, arguments: &[OsString]) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["service".into(), "run".into()];
    if args.allow_other.is_none() {
        line.push("--allow-other".into());
    }
    line.extend(arguments.iter().skip(3).cloned());
    line
}

fn uninstall(mountpoint: &Path) -> Result<()> {
    let name = name_of(mountpoint)?;
    let access = ServiceManagerAccess::CONNECT;
    let manager = ServiceManager::local_computer(None::<&str>, access).map_err(refused)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = manager.open_service(&name, access).map_err(|error| match code_of(&error) {
        Some(ERROR_SERVICE_DOES_NOT_EXIST) => anyhow::anyhow!("there is no service {name}"),
        _ => refused(error),
    })?;
    let state = || service.query_status().map(|status| status.current_state).map_err(refused);
    if state()? != ServiceState::Stopped {
        service.stop().map_err(refused)?;
        let deadline = Instant::now() + PATIENCE;
        while state()? != ServiceState::Stopped {
            if Instant::now() > deadline {
                bail!("the service {name} does not stop; `sc query {name}`");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    service.delete().map_err(refused)
}

fn refused(error: windows_service::Error) -> anyhow::Error {
    match code_of(&error) {
        Some(ERROR_ACCESS_DENIED) => anyhow::anyhow!(
            "no permission to change services; run this in a terminal of an administrator"
        ),
        _ => anyhow::Error::new(error).context("ask the service manager"),
    }
}

fn code_of(error: &windows_service::Error) -> Option<u32> {
    match error {
        windows_service::Error::Winapi(error) => error.raw_os_error().map(|code| code as u32),
        _ => None,
    }
}

/// Where a service leaves why it ended too early: what it is told on the way there is in no log yet.
fn failure_file(name: &str) -> PathBuf {
    let base = system_local().unwrap_or_default().join("covefs");
    base.join(format!("{name}.failed"))
}

/// The command line, for the thread that Windows starts.
static LINE: OnceLock<Vec<OsString>> = OnceLock::new();

define_windows_service!(service_main, live);

fn dispatch(arguments: &[OsString]) -> Result<u8> {
    // Set once: there is one service in a process.
    let _ = LINE.set(arguments.to_vec());
    match service_dispatcher::start("", service_main) {
        Ok(()) => Ok(0),
        Err(error) if code_of(&error) == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) => {
            Err(fail::usage("`service run` is what Windows calls; there is `service install`"))
        }
        Err(error) => Err(refused(error)),
    }
}

/// One life of the service.
fn live(_: Vec<OsString>) {
    let line = LINE.get().map(Vec::as_slice).unwrap_or_default();
    let Ok(cli) = crate::cli::parse(line) else { return };
    let crate::cli::Command::Service { what: ServiceCommand::Run(args) } = cli.command else {
        return;
    };
    let Ok(name) = name_of(&args.mountpoint) else { return };
    let end = Arc::new(Notify::new());
    let told = Arc::new(OnceLock::new());
    let handler = {
        let (end, told) = (end.clone(), told.clone());
        move |control| match control {
            ServiceControl::Stop | ServiceControl::Shutdown => {
                report(&told, ServiceState::StopPending, 0);
                end.notify_one();
                ServiceControlHandlerResult::NoError
            }
            ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
            _ => ServiceControlHandlerResult::NotImplemented,
        }
    };
    let Ok(handle) = service_control_handler::register(&name, handler) else { return };
    // Set once, just now.
    let _ = told.set(handle);
    report(&told, ServiceState::StartPending, 0);
    let ready = {
        let told = told.clone();
        Relay::Service(Box::new(move || report(&told, ServiceState::Running, 0)))
    };
    let user = User::current();
    let outcome =
        plan::read(&args, &user).and_then(|request| run::serve(request, &args, &user, &ready, end));
    let code = outcome.map_or_else(
        |error| {
            leave_word(&name, &error);
            u32::from(fail::exit_code(&error))
        },
        |()| 0,
    );
    report(&told, ServiceState::Stopped, code);
}

fn leave_word(name: &str, error: &anyhow::Error) {
    let file = failure_file(name);
    if let Some(dir) = file.parent() {
        // Where even this is refused, nothing else is left to be tried.
        let _ = files::make_private_dir(dir);
        let _ = std::fs::write(file, fail::one_line(error));
    }
}

fn report(handle: &OnceLock<ServiceStatusHandle>, state: ServiceState, code: u32) {
    let Some(handle) = handle.get() else { return };
    let is_pending = matches!(state, ServiceState::StartPending | ServiceState::StopPending);
    let accepts = match state {
        ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN,
        _ => ServiceControlAccept::empty(),
    };
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepts,
        exit_code: match code {
            0 => ServiceExitCode::NO_ERROR,
            code => ServiceExitCode::ServiceSpecific(code),
        },
        checkpoint: 0,
        wait_hint: if is_pending { PATIENCE } else { Duration::ZERO },
        process_id: None,
    };
    if let Err(error) = handle.set_service_status(status) {
        tracing::warn!(%error, "tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parsed(line: &str) -> (Box<MountArgs>, Vec<OsString>) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match Cli::try_parse_from(&words).unwrap().command {
            Command::Service {
                what: ServiceCommand::Install(args) | ServiceCommand::Run(args),
            } => (args, words),
            _ => panic!("no service"),
        }
    }

    #[test]
    fn what_is_installed_is_what_windows_calls() {
        let line = r"covefs service install azfiles://acme/docs X: --credentials C:\login";
        let (args, words) = parsed(line);
        assert_eq!(name_of(&args.mountpoint).unwrap(), "covefs-X");
        check_for_service(&args).unwrap();
        let launched = launch_arguments(&args, &words);
        let mut whole = vec![OsString::from("covefs")];
        whole.extend(launched);
        let whole: Vec<_> = whole.iter().map(|word| word.to_string_lossy()).collect();
        let (again, _) = parsed(&whole.join(" "));
        assert_eq!(again.share, args.share);
        assert_eq!(again.allow_other.as_deref(), Some("true"));
    }

    #[test]
    fn what_a_service_cannot_know_is_asked_for() {
        let refusal = |line: &str| {
            let (args, _) = parsed(line);
            let error = check_for_service(&args).unwrap_err();
            assert_eq!(fail::exit_code(&error), 2);
            error.to_string()
        };
        let start = "covefs service install azfiles://acme/docs X:";
        assert!(refusal(start).contains("--credentials FILE"));
        assert!(refusal(&format!("{start} --credentials login")).contains("the whole path"));
        let cache = format!(r"{start} --credentials C:\login --cache-dir cache");
        assert!(refusal(&cache).starts_with("--cache-dir"));
    }
}
