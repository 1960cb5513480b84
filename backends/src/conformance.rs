//! The suite that every [`Backend`](crate::Backend) passes: one plain function for each behaviour that the contract
//! promises, and a macro that makes a test of each.
//!
//! ```text
//! fn open() -> (Arc<dyn Backend>, TempDir) { .. }
//! t2gate_backends::conformance_suite!(open);
//! ```
//!
//! A case takes a [`Subject`], which is the backend with a bucket of its own, and panics where the promise is broken.
//! [`Capabilities`](crate::Capabilities) choose what is asked, nothing else does.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::sync::LazyLock;

use tokio::runtime::Runtime;

/// Asserts that a call was refused so, and with nothing else.
macro_rules! assert_refused {
    ($result:expr, $($refusal:tt)+) => {
        match $result {
            Err($($refusal)+) => {}
            other => panic!("expected the refusal {}, not {other:?}", stringify!($($refusal)+)),
        }
    };
}

pub mod buckets;
pub mod conditional;
pub mod copy;
pub mod history;
pub mod keys;
pub mod listing;
pub mod multipart;
pub mod objects;
pub mod race;
pub mod races;
mod scripted;
mod subject;
pub mod uploads;
pub mod version_listing;
pub mod versions;

pub use scripted::{FailingBody, Gate, ScriptedBody, gate};
pub use subject::{Subject, completed, read_whole};

/// Runs a case on the runtime that all cases of a process share. On one of its own it would take the connections that it
/// made to a server with it when it ends, also from another case whose request is on its way there.
///
/// # Panics
///
/// Where there can be no runtime, and as `case` does.
pub fn run<T>(case: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(4).enable_all();
        builder.build().expect("a runtime can be had")
    });
    RUNTIME.block_on(case)
}

/// One test for each case, in a module for each family. The argument names a function without parameters that gives
/// `(Arc<dyn Backend>, guard)`: an empty store of its own, and what has to live as long as the store.
#[macro_export]
macro_rules! conformance_suite {
    ($open:ident) => {
        $crate::conformance_cases!([$crate::conformance_tests]($open, None));
    };
}

/// As [`conformance_suite!`], for what [`Versioned`](crate::Versioned) promises beyond: the whole suite in buckets that
/// have versioning, and the cases of `versions` and `version_listing`.
#[macro_export]
macro_rules! versions_suite {
    ($open:ident) => {
        mod without_versioning {
            use super::$open;
            $crate::conformance_suite!($open);
        }
        mod with_versioning {
            use super::$open;
            use $crate::VersioningStatus::Enabled;
            $crate::conformance_cases!([$crate::conformance_tests]($open, Some(Enabled)));
        }
        $crate::conformance_version_cases!([$crate::conformance_tests]($open, None));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (($open:ident, $versioning:expr) $($families:tt)*) => {
        $crate::conformance_tests!(($open, $versioning, cfg(all())) $($families)*);
    };
    // Each with an attribute, as `ignore = "why"`.
    (($open:ident, $versioning:expr, $attribute:meta) $($family:ident { $($case:ident)* })*) => {
        $(
            mod $family {
                #[allow(unused_imports, reason = "what the expression names")]
                use super::*;
                $(
                    #[test]
                    #[$attribute]
                    fn $case() {
                        $crate::conformance::run(async {
                            let (backend, _guard) = super::$open();
                            let subject = $crate::conformance::Subject::with_versioning(backend, $versioning).await;
                            $crate::conformance::$family::$case(subject).await;
                        });
                    }
                )*
            }
        )*
    };
}

/// All cases, handed to the macro that stands in the brackets, behind `$argument`.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ([$($then:tt)+] $argument:tt) => {
        $($then)+! { $argument
            buckets {
                the_backend_is_ready_and_has_a_name
                a_created_bucket_is_found_as_it_was_made
                creating_a_bucket_twice_names_its_owner
                every_method_says_that_a_bucket_is_not_there
                an_account_lists_its_own_buckets_by_name
                bucket_listings_take_prefix_start_and_maximum
                bucket_pages_of_any_size_give_each_bucket_once
                an_account_has_no_more_buckets_than_it_may
                racing_creations_do_not_pass_the_limit
                of_racing_creations_of_one_name_one_wins
                a_setting_replaces_itself_and_nothing_else
                a_bucket_goes_only_when_it_is_empty
                a_recreated_bucket_knows_nothing_of_the_old_one
                uploads_under_way_do_not_hold_a_bucket
                buckets_do_not_see_each_others_objects
                a_write_under_way_does_not_outlive_its_bucket
                a_write_under_way_does_not_land_in_another_bucket_of_the_name
            }
            objects {
                get_gives_what_was_put
                an_object_of_no_bytes_is_an_object
                large_bodies_come_back_whole
                overwriting_replaces_all_of_an_object
                attributes_come_back_as_they_went_in
                each_content_header_is_kept_by_itself
                the_checksum_is_the_one_the_body_ends_in
                what_is_not_there_is_no_such_key
                a_deleted_object_is_gone
                without_versions_null_names_the_object
                any_range_can_be_read
                a_failed_body_leaves_the_old_object
                a_failed_body_makes_no_object
                nothing_is_seen_of_an_object_before_its_body_ends
                a_dropped_write_leaves_the_old_state
                of_two_writes_the_later_commit_stays
                an_open_object_stays_readable_while_it_is_replaced_or_deleted
                all_answers_tell_the_same_of_an_object
            }
            conditional {
                if_none_match_creates_and_never_replaces
                if_match_replaces_only_what_it_names
                if_match_any_replaces_what_is_there
                a_condition_is_judged_when_the_body_has_ended
                a_delete_can_be_conditional
                conditions_tell_a_key_from_its_neighbours
                who_may_not_destroy_writes_where_nothing_is
            }
            races {
                of_racing_creators_one_wins
                of_racing_swaps_from_one_etag_one_wins
                of_racing_deletes_one_finds_the_object
                racing_writes_leave_one_of_them_whole
                readers_see_whole_objects_while_they_are_replaced
                a_key_and_those_below_it_can_be_written_at_once
                a_write_beside_the_deletion_of_its_last_neighbour_is_kept
                parts_can_come_at_once
                racing_uploads_of_one_part_leave_one_of_them_whole
                of_racing_completes_one_does_the_work
                of_complete_and_abort_one_wins
            }
            keys {
                a_hostile_key_alone_works_in_every_operation
                hostile_keys_live_together
                hostile_keys_live_together_in_whatever_order_they_come
                deleting_one_hostile_key_leaves_the_others
                a_key_may_be_the_directory_of_another
                a_key_that_ends_in_a_slash_holds_bytes
                keys_that_fold_together_stay_apart
                hostile_keys_can_be_uploaded_in_parts
            }
            copy {
                a_copy_has_the_bytes_and_the_given_attributes
                a_copy_lives_by_itself
                a_copy_onto_itself_changes_the_attributes
                a_copy_may_go_to_another_bucket
                a_copy_needs_the_source_it_names
                a_copy_may_depend_on_what_it_replaces
                a_multipart_object_can_be_copied
                hostile_keys_can_be_copied
            }
            listing {
                an_empty_bucket_lists_nothing
                keys_come_in_byte_order
                entries_tell_what_objects_do
                prefixes_may_cut_anywhere
                delimiters_of_any_length_roll_keys_up
                objects_and_common_prefixes_are_told_apart
                pages_of_every_size_give_the_whole_listing
                pages_of_common_prefixes_neither_repeat_nor_skip
                a_listing_may_start_after_any_text
                starting_after_a_common_prefix_skips_all_below_it
                a_page_is_truncated_only_where_more_follows
                a_page_of_nothing_is_not_truncated
                a_directory_without_objects_is_not_listed
                many_keys_in_one_directory_are_paged
                hostile_keys_are_paged_like_others
            }
            multipart {
                parts_become_an_object
                a_completed_upload_is_gone
                parts_may_come_in_any_order_and_skip_numbers
                a_part_uploaded_again_replaces_the_first
                parts_that_are_not_named_are_left_out
                parts_of_all_sizes_are_joined_right
                an_upload_of_one_empty_part_is_an_empty_object
                completing_replaces_an_object
                an_object_knows_its_parts
                an_aborted_upload_is_gone
                an_unknown_upload_is_no_upload
                an_upload_tells_what_it_was_created_with
                a_refused_complete_changes_nothing
                the_last_part_may_be_small
                full_object_checksums_are_those_of_the_whole
                composite_checksums_are_those_of_the_parts
                a_repeated_complete_gives_the_same_answer
                a_complete_can_be_conditional
                a_failed_part_leaves_the_old_one
                a_dropped_part_leaves_the_old_one
                a_part_still_being_written_fails_when_its_upload_is_aborted
                a_part_still_being_written_does_not_reach_a_completed_object
            }
            uploads {
                parts_are_listed_by_number
                pages_of_parts_of_any_size_give_each_once
                uploads_are_listed_by_key_then_time
                uploads_are_rolled_up_by_delimiter
                pages_of_uploads_of_any_size_give_each_once
                a_key_marker_alone_leaves_out_all_uploads_of_the_key
                an_upload_id_marker_without_a_key_marker_is_ignored
                aborting_page_by_page_reaches_every_upload
                a_page_of_uploads_is_truncated_only_where_more_follows
            }
        }
    };
}

/// The cases of `versions` and `version_listing`, likewise.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_version_cases {
    ([$($then:tt)+] $argument:tt) => {
        $($then)+! { $argument
            versions {
                a_bucket_says_whether_it_keeps_versions
                without_versioning_each_object_is_its_version_null
                every_write_is_a_version
                equal_bytes_are_two_versions
                a_kept_version_is_all_that_it_was
                copies_and_completes_are_versions_too
                what_was_there_before_is_the_version_null
                a_version_is_of_its_key_and_bucket
                suspended_writes_replace_the_version_null
                an_open_version_stays_readable
                hostile_keys_have_versions
                a_key_and_those_below_it_have_versions
                conditions_take_a_marker_for_nothing
                who_may_not_destroy_can_do_what_is_kept
                a_delete_by_name_adds_a_marker
                deleting_the_marker_brings_the_object_back
                deleting_the_current_version_makes_the_next_one_current
                deleting_an_older_version_changes_nothing_else
                a_bucket_goes_only_without_any_version
                racing_writes_are_all_kept
                racing_deletes_by_name_and_by_id_lose_nothing
                of_racing_deletions_of_the_newest_each_finds_the_next
                what_racing_clients_see_can_have_happened
            }
            version_listing {
                versions_come_by_key_and_the_newest_first
                pages_of_versions_of_any_size_give_each_once
                versions_are_rolled_up_by_delimiter
                markers_of_a_version_listing
                deleting_page_by_page_reaches_every_version
                a_listing_of_versions_needs_its_bucket
            }
        }
    };
}

#[cfg(test)]
mod tests {
    macro_rules! names {
        (all $($family:ident { $($case:ident)* })*) => {
            [$((stringify!($family), &[$(stringify!($case)),*][..])),*]
        };
    }

    /// The file of a family, and behind it those of the modules that it is made of, in their order.
    fn source(family: &str) -> String {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
        let read = |path: String| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut source = read(format!("{dir}/{family}.rs"));
        let modules: Vec<_> = source
            .lines()
            .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
            .map(|module| read(format!("{dir}/{family}/{module}.rs")))
            .collect();
        source.extend(modules);
        source
    }

    /// A case that is not in the list would never run, and nobody would notice.
    #[test]
    fn every_case_is_in_the_list() {
        let lists = crate::conformance_cases!([names] all).into_iter();
        for (family, listed) in lists.chain(crate::conformance_version_cases!([names] all)) {
            let source = source(family);
            let names = source.lines().filter_map(|line| {
                let (name, arguments) = line.strip_prefix("pub async fn ")?.split_once('(')?;
                arguments.starts_with("s: Subject)").then_some(name)
            });
            assert_eq!(names.collect::<Vec<_>>(), listed, "{family}");
        }
    }
}
