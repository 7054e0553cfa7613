//! Downtimes that are reported are true. The long form, of a thousand outages, is a benchmark.

use faultline_tests::truth::compare;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outage_is_reported_to_within_a_spacing_and_what_is_uncertain() {
    let tally = compare(7, 24, 150).await.expect("servers and a run");
    println!("{tally}");
    assert_eq!(tally.outages, 150);
    assert!(tally.wrong.is_empty(), "{tally}\n{}", tally.wrong.join("\n"));
    assert!(tally.unseen < tally.outages / 4, "{tally}");
}
