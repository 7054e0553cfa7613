use super::*;

const MS: Duration = Duration::from_millis(1);

fn pod(name: &str, uid: &str, ready: bool) -> PodState {
    PodState {
        pod: Pod {
            namespace: "shop".into(),
            name: name.into(),
            uid: uid.into(),
            node: "node1".into(),
            owner: Some("deployment/api".into()),
            labels: [("app".into(), "api".into())].into(),
            ..Pod::default()
        },
        ready,
        ..PodState::default()
    }
}

fn comebacks() -> Comebacks {
    let labels = [("app".into(), "api".into())].into();
    let target = Selector { labels, ..Selector::default() };
    Comebacks::new(&[("api".to_owned(), target)].into())
}

/// Shows a look every 20 ms, from 1 s on, and begins to count after the first.
fn shown(looks: &[Vec<PodState>]) -> Comebacks {
    let mut comebacks = comebacks();
    for (number, look) in (0u32..).zip(looks) {
        comebacks.look(1000 * MS + number * 20 * MS, look.clone());
        if number == 0 {
            comebacks.begin();
        }
    }
    comebacks
}

fn after(comeback: &Comeback, pick: fn(&Comeback) -> Option<Moment>) -> Option<Duration> {
    comeback.after(pick(comeback)).map(|(after, off)| {
        assert_eq!(off, 20 * MS, "from look to look");
        after
    })
}

#[test]
fn a_pod_that_goes_is_replaced_by_the_next_of_its_owner() {
    let unscheduled = |mut state: PodState| {
        state.pod.node = String::new();
        state
    };
    let other = pod("api-b", "b", true);
    let all = shown(&[
        vec![pod("api-a", "a", true), other.clone()],
        vec![other.clone()],
        vec![other.clone(), unscheduled(pod("api-c", "c", false))],
        vec![other.clone(), pod("api-c", "c", false)],
        vec![other.clone(), pod("api-c", "c", false)],
        vec![other, pod("api-c", "c", true)],
    ]);
    let [one] = all.all() else { panic!("one loss: {:?}", all.all()) };
    assert_eq!(
        (one.loss, one.lost.at, one.targets.as_slice()),
        (Loss::Gone, 1020 * MS, &["api".to_owned()][..])
    );
    assert_eq!(one.pod.name, "api-c");
    assert_eq!(one.instead_of.as_ref().map(|pod| pod.name.as_str()), Some("api-a"));
    assert_eq!(after(one, |c| c.recreated), Some(20 * MS));
    assert_eq!(after(one, |c| c.scheduled), Some(40 * MS));
    assert_eq!(after(one, |c| c.ready), Some(80 * MS));
}

#[test]
fn a_name_that_comes_again_takes_the_place_of_its_own() {
    let all = shown(&[
        vec![pod("db-0", "a", true), pod("db-1", "b", true)],
        vec![],
        vec![pod("db-1", "d", true)],
        vec![pod("db-1", "d", true), pod("db-0", "c", true)],
    ]);
    let names: Vec<(&str, &str)> = all
        .all()
        .iter()
        .map(|one| (one.pod.uid.as_str(), one.instead_of.as_ref().map_or("", |p| &p.uid)))
        .collect();
    assert_eq!(names, [("c", "a"), ("d", "b")]);
}

#[test]
fn the_old_one_may_still_be_there_while_it_is_deleted() {
    let deleted = PodState { terminating: true, ..pod("api-a", "a", true) };
    let all = shown(&[
        vec![pod("api-a", "a", true)],
        vec![deleted.clone()],
        vec![deleted.clone(), pod("api-b", "b", false)],
        vec![PodState { ready: false, ..deleted }, pod("api-b", "b", true)],
        vec![pod("api-b", "b", true)],
    ]);
    let [one] = all.all() else { panic!("one loss: {:?}", all.all()) };
    assert_eq!(one.loss, Loss::Deleted);
    assert_eq!(after(one, |c| c.recreated), Some(20 * MS));
    assert_eq!(after(one, |c| c.ready), Some(40 * MS));
}

#[test]
fn in_a_rolling_update_the_new_one_is_there_before() {
    let of = |template: &str, mut state: PodState| {
        state.pod.labels.insert("pod-template-hash".into(), template.into());
        state
    };
    let (old, new) = (of("1", pod("api-a", "a", true)), of("2", pod("api-b", "b", true)));
    let all = shown(&[vec![old.clone()], vec![old.clone(), new.clone()], vec![new.clone()]]);
    let [one] = all.all() else { panic!("one loss: {:?}", all.all()) };
    assert_eq!(one.pod.uid, "b");
    assert_eq!(after(one, |c| c.ready), Some(Duration::ZERO), "nobody was missed");
    // One of the same template was there for another reason, such as more load.
    let more = of("1", pod("api-b", "b", true));
    let all = shown(&[vec![old.clone()], vec![old, more.clone()], vec![more]]);
    assert_eq!(all.all()[0].recreated, None);
}

#[test]
fn a_container_that_is_started_again_is_counted_and_comes_back_as_itself() {
    let with = |ready, restarts| PodState { restarts, ..pod("api-a", "a", ready) };
    let mut all = shown(&[
        vec![with(true, 3)],
        vec![with(false, 3)],
        vec![with(false, 4)],
        vec![with(true, 4)],
        vec![with(false, 5)],
        vec![with(true, 5)],
    ]);
    let rows: Vec<_> =
        all.all().iter().map(|c| (c.loss, c.restarts, after(c, |c| c.ready))).collect();
    let (first, second) = (Some(40 * MS), Some(20 * MS));
    assert_eq!(rows, [(Loss::Restarted, 1, first), (Loss::Restarted, 2, second)]);
    assert!(all.all().iter().all(|c| c.recreated.is_none() && !c.needs_another()));
    assert_eq!(all.look(2 * 1000 * MS, vec![with(true, 6)]), [2], "what is new is told");
    assert!(all.look(3 * 1000 * MS, vec![with(true, 6)]).is_empty(), "once");
}

#[test]
fn whoever_took_a_place_and_is_lost_before_it_is_ready_leaves_it_vacant() {
    let all = shown(&[
        vec![pod("api-a", "a", true)],
        vec![],
        vec![pod("api-b", "b", false)],
        vec![],
        vec![pod("api-c", "c", true)],
    ]);
    let [one] = all.all() else { panic!("one loss: {:?}", all.all()) };
    assert_eq!(one.pod.uid, "c");
    assert_eq!(after(one, |c| c.recreated), Some(60 * MS), "counted from the first loss");
}

#[test]
fn what_was_lost_before_anything_was_injected_or_is_of_no_target_does_not_count() {
    let mut comebacks = comebacks();
    let mut foreign = pod("web", "w", true);
    foreign.pod.labels.clear();
    comebacks.look(MS, vec![pod("api-a", "a", true), foreign]);
    comebacks.look(2 * MS, vec![]);
    comebacks.begin();
    comebacks.look(3 * MS, vec![]);
    assert!(comebacks.all().is_empty());
}

#[test]
fn time_without_a_look_is_what_a_moment_may_be_off_by() {
    let mut comebacks = comebacks();
    comebacks.look(1000 * MS, vec![pod("api-a", "a", true)]);
    comebacks.begin();
    comebacks.unchanged(1020 * MS);
    // The API server told nothing for five seconds.
    comebacks.look(6020 * MS, vec![pod("api-a", "a", false)]);
    assert_eq!(comebacks.all()[0].lost.uncertainty, 5000 * MS);
}

#[test]
fn losses_beyond_a_limit_are_counted() {
    let mut comebacks = comebacks();
    comebacks.look(MS, vec![pod("api-a", "a", true)]);
    comebacks.begin();
    for number in 1..=1_001_u32 {
        comebacks.look(2 * number * MS, vec![pod("api-a", "a", false)]);
        comebacks.look((2 * number + 1) * MS, vec![pod("api-a", "a", true)]);
    }
    assert_eq!((comebacks.all().len(), comebacks.unlisted()), (1_000, 1));
}
