"""Which test proves what becomes of which fault in which function: the table of docs/reliability.md, as data.

    python -m tests.faults.matrix        writes the table into the page

A cell names tests, or says in a sentence why there is nothing to test. tests/faults/test_matrix.py holds it together:
every test is there, no cell is empty, the page shows this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FAULTS: Final = {
    "twice": "a call or an event comes twice",
    "order": "events change places",
    "lost": "an event never comes",
    "killed": "killed before or after any external call",
    "late": "a worker wakes past its lease, or a twin works beside it",
    "refused": "throttled, 503, expired credentials, skew refused: at any call",
    "error in 200": "S3 answers 200 with an error in the body",
    "answer lost": "the answer is lost after the commit",
    "condition": "a conditional write fails",
    "clock": "the clock is a quarter of an hour wrong",
    "object": "the object is replaced or deleted in between",
    "poison": "input that breaks whoever touches it",
    "redrive": "the message comes again days later",
}
FUNCTIONS: Final = (
    "initiate",
    "sign",
    "complete",
    "sessions",
    "validate",
    "thumbnail",
    "dicom_ingest",
    "dicomweb",
    "archive",
    "sweep",
)


class Why(str):
    """The reason of a cell without a test."""

    __slots__ = ()


Cell = tuple[str, ...] | Why

HTTP = Why("no events: a caller asks again")
ONE_CALL = Why("no queue: answered or not")
READS = Why("it only reads: whatever is cut off is asked again")
NO_OBJECT = Why("it touches no object's content")
NO_COPY = Why("it asks S3 for nothing that answers so")
SIGNS = Why("one read, no write: botocore's errors become 503")

IDEMPOTENT = "functions/test_idempotency.py::"
KILLS = "faults/test_kills.py::"
RACES = "faults/test_races.py::"
DICOM = "faults/test_dicom_faults.py::"
ARCHIVE = "faults/test_archive.py::"
STACK = "faults/test_stack_faults.py::"
CLOCKS = "faults/test_skewed_clocks.py::"
REDRIVES = "faults/test_redrives.py::"
S3 = "heavylift/test_s3.py::test_answers_told_apart"
TWO_WEEKS = REDRIVES + "test_every_message_again_after_two_weeks"
GONE = REDRIVES + "test_every_message_again_when_its_file_is_gone"

MATRIX: Final[dict[str, dict[str, Cell]]] = {
    "initiate": {
        "twice": (IDEMPOTENT + "test_a_repeat_makes_nothing_and_signs_anew",),
        "order": HTTP,
        "lost": HTTP,
        "killed": (IDEMPOTENT + "test_initiate_disturbed_at_any_call_makes_each_session_once",),
        "late": (IDEMPOTENT + "test_a_run_that_slept_through_its_lease_makes_nothing_twice",),
        "refused": (IDEMPOTENT + "test_initiate_disturbed_at_any_call_makes_each_session_once",),
        "error in 200": NO_COPY,
        "answer lost": (IDEMPOTENT + "test_initiate_disturbed_at_any_call_makes_each_session_once",),
        "condition": (IDEMPOTENT + "test_two_at_once_are_one",),
        "clock": (CLOCKS + "test_files_end_the_same",),
        "object": NO_OBJECT,
        "poison": ("functions/test_initiate.py::test_any_entry_is_taken_or_named_a_problem",),
        "redrive": ONE_CALL,
    },
    "sign": {
        "twice": Why("it writes nothing: a second URL is as good"),
        "order": HTTP,
        "lost": HTTP,
        "killed": READS,
        "late": READS,
        "refused": (
            "heavylift/api/test_sign.py::test_a_read_that_stumbles_is_repeated",
            "heavylift/api/test_sign.py::test_a_table_that_does_not_answer_is_a_503",
        ),
        "error in 200": NO_COPY,
        "answer lost": ("heavylift/api/test_sign.py::test_a_read_that_stumbles_is_repeated",),
        "condition": READS,
        "clock": ("client/test_store_faults.py::test_one_fault_costs_a_retry",),
        "object": NO_OBJECT,
        "poison": ("heavylift/api/test_sign.py::test_any_body_is_signed_or_refused",),
        "redrive": ONE_CALL,
    },
    "complete": {
        "twice": ("functions/test_complete.py::test_the_answer_stays_the_same",),
        "order": HTTP,
        "lost": (KILLS + "test_an_upload_that_stands_in_assembling_is_finished_by_the_sweeper",),
        "killed": (KILLS + "test_complete_survives_any_one_fault", KILLS + "test_cancel_survives_any_one_fault"),
        "late": (RACES + "test_eight_clients_complete_one_upload",),
        "refused": (KILLS + "test_complete_survives_any_one_fault",),
        "error in 200": (S3,),
        "answer lost": (KILLS + "test_complete_survives_any_one_fault",),
        "condition": (RACES + "test_a_cancel_while_the_parts_are_joined",),
        "clock": (CLOCKS + "test_an_upload_lives_whatever_the_functions_clock_says",),
        "object": ("functions/test_complete.py::test_an_upload_that_s3_has_forgotten",),
        "poison": ("functions/test_complete.py::test_bodies_that_break_the_schema",),
        "redrive": ONE_CALL,
    },
    "sessions": {
        "twice": READS,
        "order": HTTP,
        "lost": HTTP,
        "killed": READS,
        "late": READS,
        "refused": ("functions/test_health.py::test_one_component_fails",),
        "error in 200": NO_COPY,
        "answer lost": READS,
        "condition": ("functions/test_sessions.py::test_two_functions_make_one_sealing_key",),
        "clock": (CLOCKS + "test_an_upload_lives_whatever_the_functions_clock_says",),
        "object": NO_OBJECT,
        "poison": ("functions/test_sessions.py::test_no_made_up_token_passes",),
        "redrive": ONE_CALL,
    },
    "validate": {
        "twice": (STACK + "test_every_event_three_times_and_in_reverse_order",),
        "order": (RACES + "test_events_that_repeat_and_overtake",),
        "lost": (STACK + "test_lost_events_are_found_by_the_sweeper",),
        "killed": (KILLS + "test_processing_survives_any_one_fault", STACK + "test_functions_killed_at_random_moments"),
        "late": (
            RACES + "test_two_workers_on_one_file",
            "faults/test_promotion_faults.py::test_a_worker_that_was_stopped_past_its_lease",
        ),
        "refused": (KILLS + "test_processing_survives_any_one_fault",),
        "error in 200": (S3,),
        "answer lost": (KILLS + "test_processing_survives_any_one_fault",),
        "condition": ("faults/test_promotion_faults.py::test_a_target_that_appears_at_any_call",),
        "clock": (CLOCKS + "test_files_end_the_same",),
        "object": (
            "faults/test_promotion_faults.py::test_the_source_goes_at_any_call",
            RACES + "test_bytes_that_change_under_the_worker",
        ),
        "poison": (RACES + "test_five_attempts_then_failed_and_retry_mends",),
        "redrive": (TWO_WEEKS, GONE),
    },
    "thumbnail": {
        "twice": (STACK + "test_every_event_three_times_and_in_reverse_order",),
        "order": (RACES + "test_the_stores_event_beats_the_commit",),
        "lost": (STACK + "test_lost_events_are_found_by_the_sweeper",),
        "killed": (
            KILLS + "test_thumbnails_of_a_killed_attempt_are_not_left_behind",
            "functions/test_long_pictures.py::test_any_one_fault_changes_nothing",
        ),
        "late": (RACES + "test_two_workers_on_one_thumbnail",),
        "refused": (KILLS + "test_thumbnails_of_a_killed_attempt_are_not_left_behind",),
        "error in 200": NO_COPY,
        "answer lost": (KILLS + "test_thumbnails_of_a_killed_attempt_are_not_left_behind",),
        "condition": (RACES + "test_two_workers_on_one_thumbnail",),
        "clock": (CLOCKS + "test_files_end_the_same",),
        "object": ("heavylift/test_s3.py::test_a_replaced_object_is_never_read_on",),
        "poison": (
            STACK + "test_five_attempts_end_in_failed_and_retry_mends",
            "heavylift/image/test_bad_files.py::test_changed_bytes",
        ),
        "redrive": (TWO_WEEKS, REDRIVES + "test_a_dead_letter_that_is_redriven_finishes_its_file"),
    },
    "dicom_ingest": {
        "twice": (DICOM + "test_the_same_batch_twice_at_the_same_time",),
        "order": (DICOM + "test_the_same_batch_twice_at_the_same_time",),
        "lost": (
            "functions/test_dicom_ingest.py::test_events_that_never_come",
            "functions/test_permissions.py::test_policies_allow_what_is_called_and_nothing_else",
        ),
        "killed": (DICOM + "test_a_batch_survives_any_one_fault", DICOM + "test_a_bundle_survives_any_one_kill"),
        "late": (DICOM + "test_conflicting_twins_leave_one",),
        "refused": (DICOM + "test_a_batch_survives_any_one_fault",),
        "error in 200": ("heavylift/test_direct.py::test_a_copy_that_fails_behind_its_200_is_tried_again",),
        "answer lost": (DICOM + "test_a_batch_survives_any_one_fault",),
        "condition": ("heavylift/dicom/test_counts.py::test_the_last_count_is_exact",),
        "clock": (CLOCKS + "test_dicom_counts_stay_exact",),
        "object": ("heavylift/test_s3.py::test_a_replaced_object_is_never_read_on",),
        "poison": (DICOM + "test_a_file_that_kills_its_function_ends_failed_and_alone",),
        "redrive": (TWO_WEEKS,),
    },
    "dicomweb": {
        "twice": ("functions/test_stow.py::test_again_is_no_failure",),
        "order": HTTP,
        "lost": HTTP,
        "killed": (
            "heavylift/dicomweb/test_delivery.py::test_killed_anywhere_and_asked_again_it_is_made",
            "functions/test_stow.py::test_killed_anywhere_the_file_is_taken_in_or_never_was",
        ),
        "late": ("heavylift/dicomweb/test_frames.py::test_twins_make_one_body",),
        "refused": ("functions/test_dicomweb.py::test_faults_of_aws_are_told_as_everywhere",),
        "error in 200": (S3,),
        "answer lost": ("heavylift/dicomweb/test_delivery.py::test_killed_anywhere_and_asked_again_it_is_made",),
        "condition": ("heavylift/dicomweb/test_rendered.py::test_twins_keep_one_thumbnail",),
        "clock": Why("it compares no times"),
        "object": ("heavylift/test_s3.py::test_a_replaced_object_is_never_read_on",),
        "poison": ("heavylift/dicom/test_pixels.py::test_changed_bytes_of_frames_cost_no_more_than_the_frame",),
        "redrive": ONE_CALL,
    },
    "archive": {
        "twice": (ARCHIVE + "test_a_twin_at_any_call_builds_nothing_twice",),
        "order": Why("one event a request"),
        "lost": (ARCHIVE + "test_building_survives_any_one_fault",),
        "killed": (
            ARCHIVE + "test_building_survives_any_one_fault",
            "heavylift/archives/test_traffic.py::test_killed_and_resumed",
        ),
        "late": (ARCHIVE + "test_a_twin_outlives_the_one_that_had_the_turn", ARCHIVE + "test_several_workers"),
        "refused": (ARCHIVE + "test_building_survives_any_one_fault",),
        "error in 200": (S3,),
        "answer lost": (ARCHIVE + "test_building_survives_any_one_fault",),
        "condition": (ARCHIVE + "test_a_twin_goes_on_where_the_other_was_cancelled",),
        "clock": (CLOCKS + "test_an_archive_is_built_all_the_same",),
        "object": (ARCHIVE + "test_a_member_at_fault_fails_the_job_by_name",),
        "poison": (ARCHIVE + "test_a_disk_that_stays_full_fails_the_job_cleanly",),
        "redrive": (TWO_WEEKS, GONE),
    },
    "sweep": {
        "twice": ("heavylift/sweeping/test_listings.py::test_one_at_a_time",),
        "order": Why("a schedule: no events"),
        "lost": ("functions/test_health.py::test_a_sweeper_that_stands_still",),
        "killed": (KILLS + "test_the_sweeper_survives_any_one_fault",),
        "late": ("heavylift/test_counting.py::test_a_run_that_sleeps_while_another_works",),
        "refused": (KILLS + "test_the_sweeper_survives_any_one_fault",),
        "error in 200": (S3,),
        "answer lost": (KILLS + "test_the_sweeper_survives_any_one_fault",),
        "condition": ("heavylift/test_counting.py::test_two_runs_at_once",),
        "clock": (CLOCKS + "test_files_end_the_same",),
        "object": (
            "heavylift/sweeping/test_listings.py::test_a_staged_object_is_deleted_only_when_nobody_can_want_it",
        ),
        "poison": ("heavylift/sweeping/test_due.py::test_one_file_that_cannot_be_settled_stops_nobody",),
        "redrive": Why("a schedule: no messages"),
    },
}

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- matrix: generated by python -m tests.faults.matrix -->", "<!-- matrix: end -->"


def proofs(cell: Cell) -> tuple[str, ...]:
    return () if isinstance(cell, Why) else cell


def table() -> str:
    """Markdown: a row a fault, a column a function; below it the tests and reasons by number."""
    notes: dict[str, int] = {}
    lines = [f"| | {' | '.join(FUNCTIONS)} |", f"|---|{'---|' * len(FUNCTIONS)}"]
    for fault, words in FAULTS.items():
        row = []
        for function in FUNCTIONS:
            cell = MATRIX[function][fault]
            texts = [f"`tests/{one}`" for one in cell] if not isinstance(cell, Why) else [f"No test: {cell}."]
            numbers = [notes.setdefault(text, len(notes) + 1) for text in texts]
            mark = "–" if isinstance(cell, Why) else "✓"
            row.append(f"{mark} {', '.join(map(str, numbers))}")
        lines.append(f"| {words} | {' | '.join(row)} |")
    return "\n".join([*lines, "", *(f"{number}. {text}" for text, number in notes.items())])


def written(page: str) -> str:
    """The page with the table of today."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
