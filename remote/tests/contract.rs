//! One contract suite over every kind of share; that of Azure over a server on the loopback,
//! that of SMB over Samba.
#![allow(clippy::unwrap_used)]

#[cfg(windows)]
#[path = "samba/given.rs"]
mod given;
#[cfg(unix)]
mod samba;

#[path = "contract/suite.rs"]
mod suite;

use azure_files_emulator::{Config, Emulator};
use covefs_remote::Limits;
use covefs_remote::Remote;
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
use covefs_remote::fault::FaultRemote;
use covefs_remote::memory::MemoryRemote;
use covefs_remote::smb::{SmbConfig, SmbRemote};
use std::sync::Arc;
use suite::Share;

/// A share in memory with pages so short that every listing takes several.
fn memory() -> Share {
    let limits = Limits { page_entries: 7, ..MemoryRemote::new().limits().clone() };
    Arc::new(MemoryRemote::with_limits(limits))
}

/// An empty Azure file share on a server of its own, with pages as short.
fn azure(server: &Emulator) -> Share {
    server.create_share("docs");
    let account = Account::from_connection_string(&server.connection_string()).unwrap();
    let config = AzureConfig { page_entries: 7, ..AzureConfig::new(account, "docs") };
    Arc::new(AzureRemote::new(config).unwrap())
}

/// An SMB share with pages as short.
fn smb_of(config: SmbConfig) -> Share {
    Arc::new(SmbRemote::new(SmbConfig { page_entries: 7, ..config }))
}

macro_rules! over_all {
    ($($room:ident::$case:ident,)*) => {
        mod local {
            use super::*;
            use covefs_remote::local::LocalRemote;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                let share = LocalRemote::open(dir.path().to_path_buf()).unwrap();
                suite::$room::$case(Arc::new(share)).await;
            })*
        }
        mod azure {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let server = Emulator::start(Config::default()).unwrap();
                suite::$room::$case(super::azure(&server)).await;
            })*
        }
        mod smb {
            use super::*;
            $(#[cfg(unix)]
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let Some(samba) = samba::Samba::start() else { return };
                for share in [samba::PLAIN, samba::SECRET] {
                    suite::$room::$case(smb_of(samba.config(share))).await;
                }
            })*
            $(#[cfg(windows)]
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                // Signed and encrypted alone is no matter of the system.
                if let Some(config) = given::fresh("secret").await {
                    suite::$room::$case(smb_of(config)).await;
                }
            })*
        }
        mod memory {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                suite::$room::$case(super::memory()).await;
            })*
        }
        mod fault {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                suite::$room::$case(Arc::new(FaultRemote::new(super::memory()))).await;
            })*
        }
        mod guarded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let share = Guarded::new(super::memory(), AttemptConfig::default());
                suite::$room::$case(Arc::new(share)).await;
            })*
        }
    };
}

over_all! {
    looking::the_root_is_a_directory,
    looking::what_a_change_answers_is_what_stands,
    looking::what_is_missing_is_not_found,
    looking::a_file_is_no_directory,
    looking::metadata_tells_size_kind_and_version,
    looking::a_listing_says_what_stat_says,
    looking::pages_cover_a_directory,
    looking::names_are_bytes,
    looking::names_that_cannot_be_held_are_refused,
    reading::any_range_of_a_file,
    reading::small_files_are_read_several_at_once,
    reading::a_read_ends_with_the_file,
    reading::another_version_is_not_read,
    reading::attributes_do_not_make_another_content,
    reading::a_directory_is_not_read,
    reading::a_read_goes_on_when_the_name_goes_to_another_file,
    replacing::absent_makes_only_new_files,
    replacing::a_version_is_replaced_only_by_who_knows_it,
    replacing::any_replaces_whatever_is_there,
    replacing::of_many_at_once_exactly_one_wins,
    replacing::of_many_new_ones_exactly_one_is_made,
    replacing::rounds_send_what_changed_meanwhile,
    replacing::what_is_unchanged_stays_as_it_was,
    replacing::holes_are_not_read_and_read_as_zeros,
    replacing::a_source_that_breaks_leaves_nothing,
    replacing::a_directory_is_not_replaced,
    replacing::a_missing_parent_is_told,
    replacing::attributes_come_with_the_bytes,
    replacing::what_is_replaced_passes_on_its_attributes,
    moving::files_and_directories_keep_their_identity,
    moving::an_existing_name_is_not_taken,
    moving::a_target_is_replaced_only_by_who_knows_it,
    moving::any_replaces_a_file,
    moving::the_moved_object_must_be_the_one_meant,
    moving::only_empty_directories_are_replaced,
    moving::kinds_are_not_replaced_by_one_another,
    moving::a_directory_does_not_go_below_itself,
    moving::a_changed_file_still_moves,
    removing::what_was_seen_is_removed,
    removing::what_changed_stays,
    removing::a_full_directory_stays,
    removing::of_many_removers_exactly_one_does_it,
    attrs::only_what_is_named_is_set,
    attrs::another_object_is_not_touched,
    attrs::xattrs_are_set_and_removed,
    attrs::a_new_directory_has_the_very_mode,
    attrs::symlinks_hold_any_target,
    watching::every_change_of_a_listed_directory_is_told,
    watching::it_is_armed_before_it_returns,
    watching::everybody_who_watches_is_told,
}
