//! What the debug listener answers to, as a table: its routes, the words at `/`, and the OpenAPI document follow from it.

mod state;

use serde_json::{Map, Value, json};

use crate::live::{Form, Parameter, deaths, parameters, schema};

/// A place that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Page,
    Events,
    Filter,
    Containers,
    Status,
    Schema,
    OpenApi,
    Health,
}

impl Place {
    pub(super) const ALL: [Self; 8] = [
        Self::Page,
        Self::Events,
        Self::Filter,
        Self::Containers,
        Self::Status,
        Self::Schema,
        Self::OpenApi,
        Self::Health,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Events => "/v1/events",
            Self::Filter => "/v1/filter",
            Self::Containers => "/v1/containers",
            Self::Status => "/v1/status",
            Self::Schema => "/v1/schema",
            Self::OpenApi => "/v1/openapi.json",
            Self::Health => "/healthz",
        }
    }

    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Page => "a page, for browsers",
            Self::Events => "what happens, as it happens: one JSON object per line, or server-sent events",
            Self::Filter => "what is wrong with a filter, or how it reads",
            Self::Containers => "what was counted for each container, and who died in it",
            Self::Status => "sensors, sources of names, losses, bounds",
            Self::Schema => "what the lines of /v1/events are, as JSON Schema",
            Self::OpenApi => "all of this, as OpenAPI",
            Self::Health => "200 while the agent works",
        }
    }

    fn operation_id(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Events => "events",
            Self::Filter => "filter",
            Self::Containers => "containers",
            Self::Status => "status",
            Self::Schema => "schema",
            Self::OpenApi => "openapi",
            Self::Health => "health",
        }
    }

    fn parameters(self) -> Vec<Value> {
        let mut list = Vec::new();
        if matches!(self, Self::Events | Self::Filter) {
            list.extend(parameters().map(|parameter| query(&parameter)));
        }
        if self == Self::Events {
            list.push(json!({
                "name": "Last-Event-ID",
                "in": "header",
                "description": "begin behind this event; browsers send it when they come back",
                "schema": {"type": "string"},
            }));
        }
        list
    }

    /// By status.
    fn responses(self) -> Value {
        let good = match self {
            Self::Page => {
                said("the page, or the same in words", &[("text/html", text()), ("text/plain", text())])
            }
            Self::Events => said(
                "a stream that ends when the reader goes, the limit is reached or the agent stops; each line, and the \
                 data of each server-sent event, is a Line",
                &[("application/x-ndjson", named("Line")), ("text/event-stream", text())],
            ),
            Self::Filter => said("how it reads", &[("application/json", named("Reading"))]),
            Self::Containers => said("all containers", &[("application/json", named("Containers"))]),
            Self::Status => said("the agent", &[("application/json", named("Status"))]),
            Self::Schema | Self::OpenApi => {
                said("the document", &[("application/json", json!({"type": "object"}))])
            }
            Self::Health => said("it works", &[("text/plain", text())]),
        };
        let mut responses = Map::from_iter([("200".to_owned(), good)]);
        let mut add = |status: &str, response| drop(responses.insert(status.to_owned(), response));
        if matches!(self, Self::Events | Self::Filter) {
            add("400", said("what is wrong with the query", &[("application/json", named("Complaint"))]));
        }
        match self {
            Self::Events => add(
                "503",
                said("as many readers as allowed are connected", &[("application/json", named("Refusal"))]),
            ),
            Self::Health => {
                add("503", said("a part of the agent has ended, with the reason", &[("text/plain", text())]));
            }
            _ => {}
        }
        if self != Self::Health {
            add("401", said("a token is needed", &[("text/plain", text())]));
        }
        add(
            "403",
            said("the request comes from a page or for a host of somebody else", &[("text/plain", text())]),
        );
        responses.into()
    }

    fn operation(self) -> Value {
        let mut operation = json!({
            "operationId": self.operation_id(),
            "summary": self.summary(),
            "responses": self.responses(),
        });
        let parameters = self.parameters();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if self == Self::Health {
            operation["security"] = json!([]);
        }
        operation
    }
}

/// The OpenAPI document.
pub(super) fn document() -> Value {
    let paths: Map<_, _> = Place::ALL
        .map(|place| (place.path().to_owned(), json!({"get": place.operation()})))
        .into_iter()
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "podwitness",
            "summary": "the debug listener of one agent",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the agent that this document comes from"}],
        // On loopback nothing is asked for.
        "security": [{}, {"bearer": []}, {"password": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "what debug.token_file holds"},
                "password": {"type": "http", "scheme": "basic", "description": "any name, the token as password"},
            },
            "schemas": {
                "Line": schema(),
                "Death": deaths(),
                "Containers": state::containers(),
                "Status": state::status(),
                "Reading": reading(),
                "Complaint": complaint(),
                "Refusal": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                    "additionalProperties": false,
                },
            },
        },
    })
}

fn query(parameter: &Parameter) -> Value {
    let mut told = json!({
        "name": parameter.name,
        "in": "query",
        "description": parameter.doc,
        "schema": parameter.schema(),
    });
    match parameter.form {
        // Commas or repetition: both are understood, and the latter is what generated clients send.
        Form::Names | Form::Numbers => {
            told["style"] = "form".into();
            told["explode"] = true.into();
        }
        _ => told["example"] = example(parameter),
    }
    told
}

/// As the schema has it, not as the query does.
fn example(parameter: &Parameter) -> Value {
    let text = parameter.example();
    match parameter.form {
        Form::Switch | Form::Count => serde_json::from_str(text).unwrap_or_default(),
        _ => text.into(),
    }
}

fn said(description: &str, content: &[(&str, Value)]) -> Value {
    let content: Map<_, _> =
        content.iter().map(|(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
    json!({"description": description, "content": content})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// How a query reads.
fn reading() -> Value {
    json!({
        "type": "object",
        "properties": {
            "filter": {"type": "string", "description": "the whole query in the filter language"},
            "kinds": {"type": "array", "items": {"type": "string"}, "description": "kinds of events that can pass"},
        },
        "required": ["filter", "kinds"],
        "additionalProperties": false,
    })
}

/// What is wrong with a query.
fn complaint() -> Value {
    let place = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "key": {"type": "string", "description": "the parameter that is to blame"},
            "allowed": {"type": "array", "items": {"type": "string"}, "description": "what could stand in its place"},
            "message": {"type": "string"},
            "suggestion": {"type": ["string", "null"], "description": "what was perhaps meant"},
            "span": {
                "type": "object",
                "properties": {"start": place, "end": place},
                "required": ["start", "end"],
                "additionalProperties": false,
                "description": "where in the filter, in bytes",
            },
            "pointer": {"type": "string", "description": "the filter, and a line below that points to the place"},
        },
        "required": ["error"],
        "additionalProperties": false,
    })
}
