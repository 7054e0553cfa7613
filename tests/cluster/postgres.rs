//! A real PostgreSQL, cut from its client: what is committed stays, and nothing is written twice or lost.

use std::time::Duration;

use faultline_tests::cluster::{Namespace, apply, kubectl, ok, test_image, until};

use super::{File, PATIENCE, installed, run};

fn manifests(namespace: &str, image: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{ name: db, namespace: {namespace} }}
spec: {{ clusterIP: None, selector: {{ app: db }}, ports: [{{ port: 5432 }}] }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: db, namespace: {namespace} }}
spec:
  serviceName: db
  replicas: 1
  selector: {{ matchLabels: {{ app: db }} }}
  template:
    metadata: {{ labels: {{ app: db }} }}
    spec:
      securityContext: {{ runAsUser: 999, runAsGroup: 999, fsGroup: 999 }}
      terminationGracePeriodSeconds: 5
      containers:
        - name: postgres
          image: {image}
          env: [{{ name: PATH, value: "/usr/lib/postgresql/15/bin:/bin" }}, {{ name: PGDATA, value: /data/pg }}]
          command:
            - sh
            - -c
            - |
              if [ ! -d /data/pg ]; then
                initdb -A trust -E UTF8 --locale=C -U postgres && echo "host all all all trust" >> /data/pg/pg_hba.conf
              fi
              exec postgres -c "listen_addresses=*" -c dynamic_shared_memory_type=mmap
          readinessProbe: {{ exec: {{ command: [pg_isready, -h, 127.0.0.1, -U, postgres] }}, periodSeconds: 1 }}
          volumeMounts: [{{ name: data, mountPath: /data }}]
      volumes: [{{ name: data, emptyDir: {{}} }}]
"#
    )
}

fn client(namespace: &str, image: &str, address: &str) -> String {
    // One row at a time, each of which it says that it is committed; those that fail are not tried again.
    let script = "n=0; while true; do n=$((n+1)); \
                  if timeout 2 psql -qAt -U postgres -c \\\"insert into orders values ($n)\\\" >/dev/null 2>&1; then \
                  echo committed $n; fi; sleep 0.05; done";
    format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{ name: client, namespace: {namespace}, labels: {{ app: client }} }}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: client
      image: {image}
      env:
        - {{ name: PATH, value: "/usr/lib/postgresql/15/bin:/bin" }}
        - {{ name: PGHOST, value: "{address}" }}
        - {{ name: PGCONNECT_TIMEOUT, value: "2" }}
      command: [sh, -c, "{script}"]
"#
    )
}

#[test]
fn committed_rows_outlive_a_cut_and_a_crash() {
    let _turn = installed();
    let namespace = Namespace::new("postgres");
    let ns = namespace.name();
    let image = test_image().replace("/tests:", "/postgres:");
    apply(&manifests(ns, &image));
    ok(&["rollout", "status", "-n", ns, "statefulset/db", "--timeout=120s"]);
    let sql = |text: &str| {
        kubectl(&[
            "exec",
            "-n",
            ns,
            "db-0",
            "--",
            "psql",
            "-qAt",
            "-U",
            "postgres",
            "-h",
            "127.0.0.1",
            "-c",
            text,
        ])
    };
    let made = sql("create table orders (id int primary key)");
    assert!(made.ok, "{made:?}");
    let address = ok(&["get", "pod", "-n", ns, "db-0", "-o", "jsonpath={.status.podIP}"]);
    apply(&client(ns, &image, &address));
    let committed = || kubectl(&["logs", "-n", ns, "client"]).out.lines().count();
    until("rows are written", Duration::from_mins(1), || (committed() > 10).then_some(()));

    let file = File::new(&format!(
        r#"apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: orders }}
spec:
  hypothesis: What is committed is there after a cut and after a crash of the database.
  targets:
    db: {{ namespace: {ns}, labels: {{ app: db }} }}
    client: {{ namespace: {ns}, labels: {{ app: client }} }}
  probes:
    - name: rows
      exec: {{ target: db, command: [psql, -qAt, -U, postgres, -h, 127.0.0.1, -c, "select count(*) from orders"] }}
      every: 500ms
      timeout: 3s
      recovery: {{ value: not-less, within: 30s }}
  method:
    - partition: {{ between: [db, client], protocol: tcp, ports: [5432] }}
      for: 5s
    - wait: 3s
    - kill: {{ target: db, signal: KILL }}
"#
    ));
    let ended = run(&file);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    until("the database is back", PATIENCE, || sql("select 1").ok.then_some(()));
    let before = committed();
    until("rows are written again", PATIENCE, || (committed() > before + 5).then_some(()));
    kubectl(&["exec", "-n", ns, "client", "--", "kill", "-STOP", "-1"]);
    let said = ok(&["logs", "-n", ns, "client"]);
    let said: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("committed ")).collect();
    let there = sql("select id from orders order by id").out;
    let there: std::collections::BTreeSet<&str> = there.lines().collect();
    let lost: Vec<&&str> = said.iter().filter(|id| !there.contains(**id)).collect();
    assert!(lost.is_empty(), "committed and lost: {lost:?}");
    assert!(said.len() > 20, "{}", said.len());
}
