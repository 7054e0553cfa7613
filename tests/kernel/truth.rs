//! What a run reports of real cuts is what sockets of the test's own saw of them.

use faultline_tests::{netns::can_test, truth::cuts::compare};

/// Of this many the shortest is as good as certain to be shorter than a probe's spacing.
const CUTS: usize = 20;

#[test]
fn downtimes_of_real_cuts_are_true_to_within_a_spacing_and_what_is_uncertain() {
    if !can_test() {
        return;
    }
    let tally = compare(7, CUTS).expect("namespaces and a run");
    println!("{tally}");
    assert_eq!(tally.cuts, CUTS);
    assert_eq!(tally.compared, CUTS * 3, "by each probe");
    assert!(tally.wrong.is_empty(), "{tally}\n{}", tally.wrong.join("\n"));
}
