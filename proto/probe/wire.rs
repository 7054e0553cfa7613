//! The wire form of what a probe tries: the texts are those of the file, and are checked again.

use super::{
    Address, Bound, Dns, Grpc, Http, JsonCheck, Method, Pattern, Payload, Prometheus, RecordType,
    Spec, Statuses, Tcp, Tls, Udp, Url,
    address::Wrong,
    dns::check_name,
    http::{check_header_name, check_header_value},
};
use crate::{
    InvalidWire,
    limits::{PROBE_HEADERS_MAX, PROBE_LIST_MAX, PROBE_TEXT_BYTES_MAX},
    pb,
};

fn invalid(field: &'static str) -> impl Fn(Wrong) -> InvalidWire {
    move |wrong| InvalidWire::new(field, format!("{}: {}", wrong.message, wrong.expected))
}

fn address(text: &str) -> Result<Address, InvalidWire> {
    Address::parse(text, None).map_err(invalid("address"))
}

fn pattern(text: Option<String>) -> Result<Option<Pattern>, InvalidWire> {
    text.map(|text| Pattern::parse(&text)).transpose().map_err(invalid("expect"))
}

fn payload(bytes: Option<Vec<u8>>) -> Result<Option<Payload>, InvalidWire> {
    bytes.map(Payload::new).transpose().map_err(invalid("send"))
}

fn short(field: &'static str, text: String) -> Result<String, InvalidWire> {
    if text.len() > PROBE_TEXT_BYTES_MAX {
        return Err(InvalidWire::new(
            field,
            format!("is longer than {PROBE_TEXT_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}

fn tls(wire: Option<pb::ProbeTls>) -> Result<Option<Tls>, InvalidWire> {
    let Some(wire) = wire else { return Ok(None) };
    let tls = Tls { ca_pem: wire.ca_pem, insecure: wire.insecure, server_name: wire.server_name };
    tls.check().map_err(invalid("tls"))?;
    Ok(Some(tls))
}

fn tls_to(tls: Option<Tls>) -> Option<pb::ProbeTls> {
    let tls = tls?;
    Some(pb::ProbeTls { ca_pem: tls.ca_pem, insecure: tls.insecure, server_name: tls.server_name })
}

impl TryFrom<pb::Probe> for Spec {
    type Error = InvalidWire;

    fn try_from(wire: pb::Probe) -> Result<Self, InvalidWire> {
        use pb::probe::Kind;
        let kind = wire.kind.ok_or_else(|| InvalidWire::new("kind", "is missing"))?;
        Ok(match kind {
            Kind::Dns(wire) => Self::Dns(dns(wire)?),
            Kind::Grpc(wire) => Self::Grpc(Grpc {
                address: address(&wire.address)?,
                service: short("service", wire.service)?,
                tls: tls(wire.tls)?,
            }),
            Kind::Http(wire) => Self::Http(http(wire)?),
            Kind::Prometheus(wire) => Self::Prometheus(Prometheus {
                url: Url::parse(&wire.url).map_err(invalid("url"))?,
                query: short("query", wire.query)?,
                expect: wire
                    .expect
                    .map(|text| Bound::parse(&text))
                    .transpose()
                    .map_err(invalid("expect"))?,
                tls: tls(wire.tls)?,
            }),
            Kind::Tcp(wire) => Self::Tcp(Tcp {
                address: address(&wire.address)?,
                send: payload(wire.send)?,
                expect: pattern(wire.expect)?,
            }),
            Kind::Udp(wire) => Self::Udp(Udp {
                address: address(&wire.address)?,
                send: Payload::new(wire.send).map_err(invalid("send"))?,
                expect: pattern(wire.expect)?,
            }),
        })
    }
}

fn dns(wire: pb::DnsProbe) -> Result<Dns, InvalidWire> {
    let record = RecordType::from_number(wire.record_type)
        .ok_or_else(|| InvalidWire::new("record_type", "expected one that is known"))?;
    if wire.expect.len() > PROBE_LIST_MAX {
        return Err(InvalidWire::new("expect", format!("expected up to {PROBE_LIST_MAX}")));
    }
    let answers = wire.expect.iter().map(|text| record.canonical(text));
    let mut answers: Vec<String> = answers.collect::<Result<_, _>>().map_err(invalid("expect"))?;
    answers.sort();
    Ok(Dns {
        name: check_name(&wire.name).map_err(invalid("name"))?,
        record,
        server: wire.server.map(|text| address(&text)).transpose()?,
        expect: (!answers.is_empty()).then_some(answers),
    })
}

fn http(wire: pb::HttpProbe) -> Result<Http, InvalidWire> {
    if wire.headers.len() > PROBE_HEADERS_MAX {
        return Err(InvalidWire::new("headers", format!("expected up to {PROBE_HEADERS_MAX}")));
    }
    for header in &wire.headers {
        check_header_name(&header.name).map_err(invalid("headers"))?;
        check_header_value(&header.value).map_err(invalid("headers"))?;
    }
    let json = wire.json_pointer.map(|pointer| {
        JsonCheck::check_pointer(&pointer).map_err(invalid("json_pointer"))?;
        let equals = wire.json_equals.as_deref().map(serde_json::from_str).transpose();
        let equals = equals.map_err(|e| InvalidWire::new("json_equals", e.to_string()))?;
        Ok(JsonCheck { pointer, equals })
    });
    Ok(Http {
        url: Url::parse(&wire.url).map_err(invalid("url"))?,
        method: Method::from_name(&wire.method)
            .ok_or_else(|| InvalidWire::new("method", "expected one that is known"))?,
        headers: wire.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        body: payload(wire.body)?,
        status: Statuses::parse_list(&wire.status).map_err(invalid("status"))?,
        matches: pattern(wire.matches)?,
        json: json.transpose()?,
        tls: tls(wire.tls)?,
    })
}

impl From<Spec> for pb::Probe {
    fn from(spec: Spec) -> Self {
        use pb::probe::Kind;
        let written = |pattern: Option<Pattern>| pattern.map(|p| p.written().to_owned());
        let bytes = |payload: Payload| payload.bytes().to_vec();
        let kind = match spec {
            Spec::Dns(dns) => Kind::Dns(pb::DnsProbe {
                name: dns.name,
                record_type: dns.record.number().into(),
                server: dns.server.map(|server| server.to_string()),
                expect: dns.expect.unwrap_or_default(),
            }),
            Spec::Grpc(grpc) => Kind::Grpc(pb::GrpcProbe {
                address: grpc.address.to_string(),
                service: grpc.service,
                tls: tls_to(grpc.tls),
            }),
            Spec::Http(http) => {
                let header = |(name, value)| pb::ProbeHeader { name, value };
                let (pointer, equals) = http.json.map(|json| (json.pointer, json.equals)).unzip();
                Kind::Http(pb::HttpProbe {
                    url: http.url.to_string(),
                    method: http.method.name().into(),
                    headers: http.headers.into_iter().map(header).collect(),
                    body: http.body.map(bytes),
                    status: http.status.to_string(),
                    matches: written(http.matches),
                    json_pointer: pointer,
                    json_equals: equals.flatten().map(|value| value.to_string()),
                    tls: tls_to(http.tls),
                })
            }
            Spec::Prometheus(query) => Kind::Prometheus(pb::PrometheusProbe {
                url: query.url.to_string(),
                query: query.query,
                expect: query.expect.map(|bound| bound.to_string()),
                tls: tls_to(query.tls),
            }),
            Spec::Tcp(tcp) => Kind::Tcp(pb::TcpProbe {
                address: tcp.address.to_string(),
                send: tcp.send.map(bytes),
                expect: written(tcp.expect),
            }),
            Spec::Udp(udp) => Kind::Udp(pb::UdpProbe {
                address: udp.address.to_string(),
                send: bytes(udp.send),
                expect: written(udp.expect),
            }),
        };
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Problems, parse};

    #[test]
    fn what_is_written_is_the_same_behind_the_wire() {
        for (kind, yaml) in [
            ("dns", "{ name: db.shop, type: SRV, server: 10.0.0.10, expect: [1 2 3 b, 1 2 3 a] }"),
            ("dns", "{ name: db.shop }"),
            ("grpc", "{ address: 'db:1', service: a.B, tls: { serverName: x, insecure: true } }"),
            (
                "http",
                "{ url: 'https://a:1/b?c', method: PUT, headers: { X: y }, body: z, tls: {}, \
                       status: [2xx, 300-302, 404], match: /a(b)/, json: { pointer: '', equals: 1 } }",
            ),
            ("http", "{ url: 'http://[::1]', json: { pointer: /a, equals: null } }"),
            ("prometheus", "{ server: 'http://p:9090/x', query: up, expect: '>= 0.5' }"),
            ("tcp", "{ address: '[::1]:1', send: { hex: 00ff }, expect: ok }"),
            ("udp", "{ address: 'a:1', send: x }"),
        ] {
            let mut problems = Problems::new();
            let spec = Spec::decode(kind, &parse(yaml).expect(yaml)[0], &mut problems);
            assert!(problems.is_empty(), "{problems:?}");
            let spec = spec.expect(yaml);
            assert_eq!(Spec::try_from(pb::Probe::from(spec.clone())), Ok(spec), "{yaml}");
        }
    }

    #[test]
    fn what_no_file_could_say_is_refused() {
        use pb::probe::Kind;
        let tcp = pb::TcpProbe { address: "a:1".into(), ..Default::default() };
        let header = pb::ProbeHeader { name: "a b".into(), value: "c".into() };
        let http = pb::HttpProbe {
            url: "http://a/".into(),
            method: "GET".into(),
            status: "200".into(),
            ..Default::default()
        };
        for (kind, field) in [
            (None, "kind"),
            (Some(Kind::Tcp(pb::TcpProbe { address: "a".into(), ..tcp.clone() })), "address"),
            (Some(Kind::Tcp(pb::TcpProbe { send: Some(vec![0; 1 << 20]), ..tcp.clone() })), "send"),
            (Some(Kind::Tcp(pb::TcpProbe { expect: Some("/(/".into()), ..tcp })), "expect"),
            (Some(Kind::Http(pb::HttpProbe { url: "file:///".into(), ..http.clone() })), "url"),
            (Some(Kind::Http(pb::HttpProbe { method: "BREW".into(), ..http.clone() })), "method"),
            (Some(Kind::Http(pb::HttpProbe { status: String::new(), ..http.clone() })), "status"),
            (Some(Kind::Http(pb::HttpProbe { headers: vec![header], ..http })), "headers"),
            (
                Some(Kind::Dns(pb::DnsProbe { record_type: 999, ..Default::default() })),
                "record_type",
            ),
        ] {
            let refused = Spec::try_from(pb::Probe { kind }).expect_err(field);
            assert_eq!(refused.field, field);
        }
    }
}
