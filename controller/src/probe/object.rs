//! A look at an object of a cluster: its numbers and conditions, as its watch has them. It is no request.

use faultline_probe::{Failure, FailureKind};

use crate::{
    cluster::{ObjectState, ObjectWatch},
    experiment::KubernetesProbe,
};

/// What is looked at, under watch.
#[derive(Debug)]
pub struct ObjectAttempt {
    watch: ObjectWatch,
    asked: KubernetesProbe,
}

impl ObjectAttempt {
    /// Makes ready what a probe looks at.
    pub fn new(asked: &KubernetesProbe, watch: ObjectWatch) -> Self {
        Self { watch, asked: asked.clone() }
    }

    /// Looks once.
    pub(super) fn look(&self) -> Result<Option<String>, Failure> {
        let state = self.watch.now().map_err(|why| Failure::new(FailureKind::Other, why))?;
        judge(&self.asked, state.as_ref())
    }
}

/// Compares an object with what is asked of it. The value is the number that the probe is about.
fn judge(asked: &KubernetesProbe, state: Option<&ObjectState>) -> Result<Option<String>, Failure> {
    let mismatch = |text: String| Err(Failure::new(FailureKind::Mismatch, text));
    let Some(state) = state else { return mismatch(format!("there is no {}", asked.object)) };
    let mut wrong = Vec::new();
    for (figure, bound) in &asked.bounds {
        let was = state.figures.get(figure).copied().unwrap_or(0);
        if !bound.contains(f64::from(was)) {
            wrong.push(format!("{} {was}, {bound} is asked", figure.name()));
        }
    }
    wrong.extend(asked.conditions.first_wrong(&state.conditions));
    if wrong.is_empty() {
        return Ok(state.figures.get(&asked.value).map(u32::to_string));
    }
    mismatch(wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use faultline_proto::{probe::Bound, yaml::Span};

    use super::*;
    use crate::experiment::{ConditionStatus, Conditions, Figure, Object, ObjectKind};

    fn asked(bounds: &[(Figure, &str)], value: Figure) -> KubernetesProbe {
        let bound = |(figure, text): &(Figure, &str)| (*figure, Bound::parse(text).expect("one"));
        KubernetesProbe {
            object: Object {
                kind: ObjectKind::Deployment,
                namespace: "shop".into(),
                name: "api".into(),
            },
            bounds: bounds.iter().map(bound).collect(),
            conditions: Conditions::of("Available", ConditionStatus::True),
            value,
            span: Span::default(),
        }
    }

    #[test]
    fn an_object_has_to_be_there_and_all_that_is_asked_of_it_to_be_so() {
        let state = |available: &str| ObjectState {
            figures: [(Figure::Ready, 2), (Figure::Desired, 3)].into(),
            conditions: [("Available".into(), available.into())].into(),
        };
        let asked = asked(&[(Figure::Ready, ">= 2"), (Figure::Desired, "<= 3")], Figure::Desired);
        assert_eq!(judge(&asked, Some(&state("True"))), Ok(Some("3".into())));
        let wrong = judge(&asked, Some(&state("False"))).expect_err("a condition");
        assert_eq!(wrong.text, "Available is False, True is asked");
        let bound = super::tests::asked(&[(Figure::Ready, ">= 3")], Figure::Ready);
        let wrong = judge(&bound, Some(&state("Unknown"))).expect_err("both");
        assert_eq!(wrong.text, "ready 2, >= 3 is asked; Available is Unknown, True is asked");
        let wrong = judge(&asked, None).expect_err("nobody");
        assert_eq!(wrong.text, "there is no deployment/api in namespace shop");
        assert_eq!(wrong.kind, FailureKind::Mismatch);
    }
}
