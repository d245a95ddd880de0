//! Microsoft's own client library drives the server through every area of the protocol, over
//! HTTP and over TLS. Each area is a case of `conformance/*.py`, named here, too, so that none
//! can be lost.
#![cfg(unix)]

use azure_files_emulator::{Config, Emulator, TENANT};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the cases need, and nothing else is installed. A new line here makes a new environment.
const PACKAGES: [&str; 2] = ["azure-storage-file-share==12.27.1", "azure-identity==1.27.0"];

const CASES: &str = "
    shared_key_is_accepted wrong_key_is_rejected no_credentials_are_rejected
    response_carries_protocol_headers older_service_version unknown_calls_are_told_so
    create_share_and_find_it create_share_twice share_name_rules missing_share
    share_quota_and_metadata share_statistics list_shares_pages_and_metadata share_access_policy
    service_properties share_lease deleted_share_can_be_restored
    directory_properties root_directory_exists create_directory_conflicts delete_directory
    directory_metadata_and_times
    create_file_is_zero_filled create_file_with_data create_file_replaces upload_download_small
    upload_download_several_ranges download_in_chunks download_ranges download_empty_file
    upload_range_overwrites_in_place upload_range_can_preserve_last_write_time
    upload_range_limits md5_is_checked clear_range_punches_a_hole list_ranges_windows_and_pages
    resize set_http_headers_replaces times_keep_seven_digits attributes_and_read_only file_errors
    delete_file file_metadata parallel_range_writers
    odd_file_names odd_directory_names names_not_valid_in_xml names_ignore_case_and_keep_it
    bad_names trailing_dots
    list_sorted_kinds_and_sizes list_pages list_extended list_wire_shape list_missing_directory
    rename_file_keeps_identity rename_file_into_other_directory rename_file_conflicts
    rename_over_read_only rename_directory_moves_the_tree rename_needs_the_lease rename_with_sas
    snapshot_read_and_limits snapshot_range_diff snapshots_are_named_by_seconds
    file_lease_guards_writes file_lease_break_and_absence copy_file upload_range_from_url
    permissions handles_of_nothing_open links_on_nfs_shares
    account_sas_is_checked share_sas_permissions file_sas_names_one_file sas_with_stored_policy
    bearer_over_plain_http_is_refused";

/// Over TLS alone.
const TLS_CASES: &str = "
    secret_is_exchanged_for_a_token workload_identity_is_exchanged_for_a_token
    managed_identity_gives_a_token az_gives_a_token user_delegation_sas bearer_needs_intent_and_a_new_version";

#[test]
fn the_service_s_own_client_library_is_served_over_http() {
    check(false, CASES);
}

#[test]
fn the_service_s_own_client_library_is_served_over_tls() {
    check(true, &format!("{CASES} {TLS_CASES}"));
}

#[track_caller]
fn check(tls: bool, expected: &str) {
    let emulator = Emulator::start(Config { tls, soft_delete: true, ..Config::default() });
    let emulator = emulator.expect("a port of the loopback is free");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/run.py");
    let mut python = Command::new(environment());
    python.arg("-B").arg(script).env("AZURE_FILES_EMULATOR", settings(&emulator));
    let output = python.output().expect("the environment's Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "cases failed, or did not run:\n{text}\n{errors}");
    let passed: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    let expected: BTreeSet<&str> = expected.split_whitespace().collect();
    assert_eq!(passed, expected, "each case is named in both places");
}

/// What the cases must know of the server, as JSON.
fn settings(emulator: &Emulator) -> String {
    let name = if emulator.authority_pem().is_some() { "tls" } else { "http" };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{name}"));
    std::fs::create_dir_all(&dir).expect("the build's directory can be written to");
    let ca = emulator.authority_pem().map(|pem| {
        let file = dir.join("ca.pem");
        std::fs::write(&file, pem).expect("the build's directory can be written to");
        file
    });
    emulator.install_az(&dir, 600).expect("as above");
    let entra = Config::default().entra;
    let token_file = dir.join("federated-token");
    std::fs::write(&token_file, &entra.federated_token).expect("as above");
    serde_json::json!({
        "connection_string": emulator.connection_string(),
        "endpoint": emulator.endpoint(),
        "plain_endpoint": emulator.plain_endpoint(),
        "account": emulator.account(),
        "key": emulator.key(),
        "ca": ca,
        "az_dir": dir,
        "authority_host": emulator.authority_host(),
        "imds_host": emulator.imds_host(),
        "tenant": TENANT,
        "client_id": entra.client_id,
        "client_secret": entra.client_secret,
        "federated_token_file": token_file,
        "token": emulator.token(600),
    })
    .to_string()
}

/// The Python that has the client library: made once, under the build's directory.
fn environment() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azure-sdk");
        let (ready, wanted) = (dir.join("ready"), PACKAGES.join("\n"));
        let python = dir.join("bin/python");
        // Marked only when whole: an installation that was broken off is begun anew.
        if std::fs::read_to_string(&ready).is_ok_and(|text| text == wanted) {
            return python;
        }
        let made = dir.to_str().expect("the build's directory has a plain name");
        run(Command::new("python3").args(["-m", "venv", "--clear", made]));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(PACKAGES));
        std::fs::write(ready, wanted).expect("the build's directory can be written to");
        python
    })
}

fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {text}");
}
