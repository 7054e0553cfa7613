//! What takes a fault back: a record on the changed object itself, written with the change in one request and
//! taken away with it in one. Whoever finds it can restore the object, also when everybody who knew of the fault
//! has gone. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The annotation that holds the record.
pub const ANNOTATION: &str = "faultline.dev/undo";
/// The label by which objects with a record are listed; its value is the fault's id.
pub const LABEL: &str = "faultline.dev/fault";
/// The label that says of an object with a record's label that it is restored, and that what is left beside it is
/// being removed; its value is the fault's id. A label, since annotations of workloads are copied by their
/// controllers.
pub const RESTORED: &str = "faultline.dev/restored";
/// The version of the record that is written and understood here.
const VERSION: u32 = 1;

/// How an object is restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Undo {
    version: u32,
    /// The run.
    pub run: String,
    /// The fault.
    pub fault: String,
    /// Its kind.
    pub kind: String,
    /// When it is taken back at the latest, in milliseconds since 1970 (UTC): whoever does that then is on another
    /// machine than whoever wrote it, and the two have no other clock in common.
    pub deadline_unix_ms: u64,
    /// What was changed.
    pub changes: Vec<Change>,
}

/// A change of one place in an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "change", deny_unknown_fields)]
pub enum Change {
    /// A value in place of another.
    Value {
        /// Where (RFC 6901).
        path: String,
        /// What was there; nothing if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Value>,
        /// What is there now.
        ours: Value,
    },
    /// One more item of a list.
    Item {
        /// Where the list is.
        path: String,
        /// The item.
        ours: Value,
    },
}

/// What has to be written so that an object is as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Restoration {
    /// A merge patch (RFC 7386), which holds only for the version of the object that was looked at.
    pub patch: Value,
    /// What is not ours any more and stays, each in a sentence.
    pub changed_by_others: Vec<String>,
    /// What was ours was not there to its end: somebody else has changed it, or put back what was before.
    pub ended_by_others: bool,
}

impl Undo {
    /// A record of changes.
    pub fn new(
        run: &str,
        fault: &str,
        kind: &str,
        deadline_unix_ms: u64,
        changes: Vec<Change>,
    ) -> Self {
        let (run, fault, kind) = (run.to_owned(), fault.to_owned(), kind.to_owned());
        Self { version: VERSION, run, fault, kind, deadline_unix_ms, changes }
    }

    /// The record that an object bears; `None` if it bears none.
    ///
    /// # Errors
    /// When it bears one that cannot be understood: why, in a sentence.
    pub fn of(object: &Value) -> Option<Result<Self, String>> {
        let annotations = object.pointer("/metadata/annotations")?;
        let text = annotations.get(ANNOTATION)?.as_str()?;
        let record = serde_json::from_str::<Self>(text);
        Some(match record {
            Ok(record) if record.version == VERSION => Ok(record),
            Ok(Self { version, .. }) => Err(format!(
                "its record {ANNOTATION} is of version {version}, and {VERSION} is understood here"
            )),
            Err(error) => Err(format!("its record {ANNOTATION} cannot be understood: {error}")),
        })
    }

    /// What has to be written so that an object is changed and bears the record: a merge patch.
    pub fn put(&self, object: &Value) -> Value {
        let mut after = object.clone();
        for change in &self.changes {
            match change {
                Change::Value { path, ours, .. } => set(&mut after, path, Some(ours.clone())),
                Change::Item { path, ours } => {
                    let mut items = list(&after, path);
                    items.push(ours.clone());
                    set(&mut after, path, Some(items.into()));
                }
            }
        }
        let text = serde_json::to_string(self).unwrap_or_default();
        set(&mut after, &annotation_path(), Some(text.into()));
        set(&mut after, &label_path(LABEL), Some(self.fault.clone().into()));
        set(&mut after, &label_path(RESTORED), None);
        guarded(object, difference(object, &after))
    }

    /// Whether something of the change is in an object still, whatever record that bears.
    pub fn is_in(&self, object: &Value) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Value { path, ours, .. } => {
                object.pointer(&place(object, path, ours)) == Some(ours)
            }
            Change::Item { path, ours } => {
                list(object, path).iter().any(|item| is_within(ours, item))
            }
        })
    }

    /// What has to be written so that an object is as it was before: compare and swap, place by place. Its record
    /// goes; with `is_swept`, its label stays until what is left beside it has been removed.
    pub fn take_back(&self, object: &Value, is_swept: bool) -> Restoration {
        let mut after = object.clone();
        let (mut changed_by_others, mut ended_by_others) = (Vec::new(), false);
        for change in &self.changes {
            match change {
                Change::Value { path, before, ours } => {
                    let path = &place(object, path, ours);
                    let now = object.pointer(path);
                    if now == Some(ours) {
                        set(&mut after, path, before.clone());
                        continue;
                    }
                    ended_by_others = true;
                    // Who has put back what was there has done our work.
                    if now != before.as_ref() {
                        changed_by_others.push(changed(path, ours, now));
                    }
                }
                Change::Item { path, ours } => {
                    let mut items = list(&after, path);
                    let count = items.len();
                    // The API server may have added to it: when a taint was put, say.
                    items.retain(|item| !is_within(ours, item));
                    if items.len() < count {
                        let left = (!items.is_empty()).then_some(items.into());
                        set(&mut after, path, left);
                    } else {
                        ended_by_others = true;
                    }
                }
            }
        }
        set(&mut after, &annotation_path(), None);
        let stays = is_swept.then(|| Value::from(self.fault.clone()));
        set(&mut after, &label_path(LABEL), stays.clone());
        set(&mut after, &label_path(RESTORED), stays);
        let patch = guarded(object, difference(object, &after));
        Restoration { patch, changed_by_others, ended_by_others }
    }
}

fn changed(path: &str, ours: &Value, now: Option<&Value>) -> String {
    let now = now.map_or("nothing".to_owned(), Value::to_string);
    let place = path.replace('/', ".").replace("~1", "/");
    format!("{}: set to {ours}, and somebody else made {now} of it", place.trim_start_matches('.'))
}

fn annotation_path() -> String {
    format!("/metadata/annotations/{}", escaped(ANNOTATION))
}

fn label_path(label: &str) -> String {
    format!("/metadata/labels/{}", escaped(label))
}

/// Which fault a label of ours names.
pub(super) fn label<'o>(object: &'o Value, label: &str) -> Option<&'o str> {
    object.pointer("/metadata/labels")?.get(label)?.as_str()
}

/// What has to be written so that the labels of a fault go.
pub(super) fn unlabel(object: &Value) -> Value {
    let mut after = object.clone();
    set(&mut after, &label_path(LABEL), None);
    set(&mut after, &label_path(RESTORED), None);
    guarded(object, difference(object, &after))
}

/// Where a value of ours is: somebody may have put other items in front of the one it was put into.
fn place(object: &Value, path: &str, ours: &Value) -> String {
    if object.pointer(path) == Some(ours) {
        return path.to_owned();
    }
    let parts: Vec<&str> = path.split('/').collect();
    let Some(at) = parts.iter().position(|part| part.parse::<usize>().is_ok()) else {
        return path.to_owned();
    };
    let (items, rest) = (parts[..at].join("/"), parts[at + 1..].join("/"));
    let places = (0..list(object, &items).len()).map(|item| format!("{items}/{item}/{rest}"));
    let mut found = places.filter(|place| object.pointer(place) == Some(ours));
    found.next().unwrap_or_else(|| path.to_owned())
}

/// A name as a part of a path (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Whether everything that `part` says is so in `whole`.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|w| is_within(value, w)))
        }
        _ => part == whole,
    }
}

fn list(object: &Value, path: &str) -> Vec<Value> {
    object.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Puts a value at a path, or takes away what is there. Mappings on the way are made.
fn set(object: &mut Value, path: &str, value: Option<Value>) {
    let Some((parent, name)) = path.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    if object.pointer(parent).is_none_or(Value::is_null) {
        if value.is_none() {
            return;
        }
        set(object, parent, Some(json!({})));
    }
    match (object.pointer_mut(parent), value) {
        (Some(Value::Object(fields)), Some(value)) => drop(fields.insert(name, value)),
        (Some(Value::Object(fields)), None) => drop(fields.remove(&name)),
        (Some(Value::Array(items)), Some(value)) => {
            if let Some(item) = name.parse().ok().and_then(|at: usize| items.get_mut(at)) {
                *item = value;
            }
        }
        _ => {}
    }
}

/// The merge patch (RFC 7386) that makes `after` of `before`.
fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        match old.get(name) {
            Some(known) if known == value => {}
            Some(known) => drop(patch.insert(name.clone(), difference(known, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

/// The same patch, for this version of the object only: the API server answers 409 for another.
fn guarded(object: &Value, mut patch: Value) -> Value {
    let version = object.pointer("/metadata/resourceVersion").cloned();
    set(&mut patch, "/metadata/resourceVersion", version);
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A merge patch, applied as an API server does.
    fn patched(object: &Value, patch: &Value) -> Value {
        let (Value::Object(_), Value::Object(fields)) = (object, patch) else {
            return patch.clone();
        };
        let mut result = object.clone();
        let map = result.as_object_mut().expect("a mapping");
        for (name, value) in fields {
            if value.is_null() {
                map.remove(name);
            } else {
                let old = map.get(name).cloned().unwrap_or_else(|| json!({}));
                map.insert(name.clone(), patched(&old, value));
            }
        }
        result
    }

    fn scale() -> Undo {
        let path = "/spec/replicas".to_owned();
        let change = Change::Value { path, before: Some(3.into()), ours: 0.into() };
        Undo::new("r", "f", "scale", 7, vec![change])
    }

    fn deployment() -> Value {
        json!({"metadata": {"name": "api", "resourceVersion": "5"}, "spec": {"replicas": 3, "paused": false}})
    }

    #[test]
    fn what_is_put_is_one_patch_and_taken_back_to_the_last_byte() {
        let object = deployment();
        let patch = scale().put(&object);
        assert_eq!(patch["metadata"]["resourceVersion"], "5", "for this version only");
        assert_eq!(patch["spec"], json!({"replicas": 0}), "nothing else is written");
        let changed = patched(&object, &patch);
        let record = Undo::of(&changed).expect("a record").expect("of ours");
        assert_eq!(record, scale());
        assert_eq!(changed["metadata"]["labels"][LABEL], "f");
        let back = record.take_back(&changed, false);
        assert_eq!((&back.changed_by_others, back.ended_by_others), (&Vec::new(), false));
        let mut restored = patched(&changed, &back.patch);
        // The API server drops mappings without anything.
        restored["metadata"].as_object_mut().expect("fields").retain(|_, v| *v != json!({}));
        assert_eq!(restored, object);
    }

    #[test]
    fn what_somebody_else_changed_stays_and_is_told_and_the_record_goes() {
        let mut changed = patched(&deployment(), &scale().put(&deployment()));
        changed["spec"]["replicas"] = 5.into();
        let back = scale().take_back(&changed, false);
        assert_eq!(
            back.changed_by_others,
            ["spec.replicas: set to 0, and somebody else made 5 of it"]
        );
        let after = patched(&changed, &back.patch);
        assert_eq!(after["spec"]["replicas"], 5);
        assert_eq!(Undo::of(&after), None);
        assert!(back.ended_by_others, "it was not there to its end");
        // Who has put back what was there has done our work.
        changed["spec"]["replicas"] = 3.into();
        let back = scale().take_back(&changed, false);
        assert_eq!((back.changed_by_others, back.ended_by_others), (Vec::new(), true));
    }

    #[test]
    fn an_item_of_a_list_goes_and_the_others_stay() {
        let ours = json!({"key": "faultline.dev/t", "effect": "NoExecute", "value": "x"});
        let undo = Undo::new(
            "r",
            "f",
            "taint",
            7,
            vec![Change::Item { path: "/spec/taints".into(), ours }],
        );
        let node = json!({"metadata": {"resourceVersion": "1"}, "spec": {}});
        let mut changed = patched(&node, &undo.put(&node));
        changed["spec"]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z".into();
        let alone = patched(&changed, &undo.take_back(&changed, false).patch);
        assert_eq!(alone["spec"], json!({}));
        let other = json!({"key": "disk", "effect": "NoSchedule"});
        changed["spec"]["taints"].as_array_mut().expect("taints").insert(0, other.clone());
        let both = patched(&changed, &undo.take_back(&changed, false).patch);
        assert_eq!(both["spec"]["taints"], json!([other]));
    }

    #[test]
    fn a_value_in_a_list_is_written_with_its_whole_list() {
        let path = "/spec/containers/1/image".to_owned();
        let change = Change::Value { path, before: Some("b:1".into()), ours: "x".into() };
        let undo = Undo::new("r", "f", "imagePull", 7, vec![change]);
        let object =
            json!({"metadata": {}, "spec": {"containers": [{"image": "a"}, {"image": "b:1"}]}});
        let changed = patched(&object, &undo.put(&object));
        assert_eq!(changed["spec"]["containers"], json!([{"image": "a"}, {"image": "x"}]));
        let back = patched(&changed, &undo.take_back(&changed, false).patch);
        assert_eq!(back["spec"], object["spec"]);
    }

    #[test]
    fn a_value_in_a_list_is_found_where_others_came_in_front_of_it() {
        let path = "/spec/containers/0/image".to_owned();
        let change = Change::Value { path, before: Some("b:1".into()), ours: "x".into() };
        let undo = Undo::new("r", "f", "imagePull", 7, vec![change]);
        let changed =
            json!({"metadata": {}, "spec": {"containers": [{"image": "new"}, {"image": "x"}]}});
        assert!(undo.is_in(&changed));
        let back = undo.take_back(&changed, false);
        assert_eq!(back.changed_by_others, Vec::<String>::new());
        let after = patched(&changed, &back.patch);
        assert_eq!(after["spec"]["containers"], json!([{"image": "new"}, {"image": "b:1"}]));
        assert!(!undo.is_in(&after));
    }

    #[test]
    fn what_is_swept_keeps_its_label_until_it_is() {
        let changed = patched(&deployment(), &scale().put(&deployment()));
        let restored = patched(&changed, &scale().take_back(&changed, true).patch);
        assert_eq!(restored["spec"]["replicas"], 3);
        assert_eq!(Undo::of(&restored), None, "a record would be copied by who looks after it");
        assert_eq!((label(&restored, LABEL), label(&restored, RESTORED)), (Some("f"), Some("f")));
        let clean = patched(&restored, &unlabel(&restored));
        assert_eq!((label(&clean, LABEL), label(&clean, RESTORED)), (None, None));
    }

    #[test]
    fn a_change_without_its_record_is_known_from_who_remembers() {
        let mut changed = patched(&deployment(), &scale().put(&deployment()));
        changed["metadata"]["annotations"] = json!({});
        assert_eq!(Undo::of(&changed), None);
        assert!(scale().is_in(&changed));
        let after = patched(&changed, &scale().take_back(&changed, false).patch);
        assert_eq!(after["spec"]["replicas"], 3);
        assert!(!scale().is_in(&after));
    }

    #[test]
    fn a_record_that_is_not_understood_is_told_and_not_guessed_at() {
        let bearing = |text: &str| json!({"metadata": {"annotations": {ANNOTATION: text}}});
        for text in ["", "{}", "{\"version\": 2}"] {
            let said = Undo::of(&bearing(text)).expect("a record").expect_err("none of ours");
            assert!(said.contains(ANNOTATION), "{said}");
        }
        let newer = serde_json::to_string(&Undo { version: 2, ..scale() }).expect("JSON");
        let said = Undo::of(&bearing(&newer)).expect("a record").expect_err("a newer one");
        assert!(said.contains("version 2"), "{said}");
    }
}
