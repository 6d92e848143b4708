//! The window tracker, by scripts and against a naive reference.

mod model;
mod script;

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                script::check(stringify!($name));
            }
        )*
    };
}

scripts! {
    a_backlog_is_cut_into_whole_windows_after_its_listing
    a_change_of_window_size_leaves_older_windows_alone
    a_clock_that_is_set_back_delays_no_window
    a_file_that_changes_while_it_is_planned_stays_pending
    a_large_window_is_split_and_its_rest_follows_at_once
    a_late_file_belongs_to_the_next_generation
    a_quiet_namespace_compacts_by_deadlines_alone
    a_silent_writer_is_waited_for_only_until_max_wait
    a_voided_plan_is_drafted_again_at_once
    a_window_below_the_minimum_goes_at_max_age
    a_window_that_outgrows_a_plan_is_planned_early
    drain_plans_everything_known
    duplicates_change_nothing
    files_below_the_boundary_are_refused
    files_from_the_future_are_held
    namespaces_take_turns_by_priority
    presence_of_all_active_writers_is_a_quorum
    saved_state_gives_the_same_tracker
    too_many_open_windows_defer_files
    too_many_pending_files_leave_each_namespace_its_share
    too_many_writers_turn_the_quorum_off
    watermarks_past_the_end_are_a_quorum
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<_> = std::fs::read_dir(script::directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}
