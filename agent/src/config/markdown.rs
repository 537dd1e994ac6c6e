//! The option table for the documentation.

use super::options::sections;
use super::spec::OptionSpec;

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `podwitness config --markdown`. Change agent/src/config/ instead. -->

podwitness runs without any configuration. Where a default doesn't fit, say so in a YAML file
(`--config FILE` or `PODWITNESS_CONFIG=FILE`), in environment variables or in flags. A flag overrides a
variable, a variable overrides the file. All three follow from the key:

| Key              | File                         | Environment variable        | Flag                    |
|------------------|------------------------------|-----------------------------|-------------------------|
| `metrics.listen` | `metrics: { listen: VALUE }` | `PODWITNESS_METRICS_LISTEN` | `--metrics-listen VALUE` |

In the file, `metrics.listen: VALUE` at the top means the same.

`podwitness config` prints the configuration in force as a YAML file, with the source of each value that
isn't the default. Its output can be given back with `--config`.

Nothing is loaded, attached or bound before the whole configuration is valid. Unknown keys, unknown
`PODWITNESS_` variables and values out of range are errors, all reported at once. A variable that is set to
nothing counts as not set. The variables that Kubernetes sets for a service named `podwitness` are ignored.
`PODWITNESS_LOG` is no option but a filter for the log, such as `podwitness=debug`.
";

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for options in sections() {
        text += &format!("\n## `{}`\n\n", options[0].section());
        text += "| Option | Default | Meaning and allowed values |\n|---|---|---|\n";
        text.extend(options.iter().map(row));
    }
    text
}

fn row(option: &OptionSpec) -> String {
    let OptionSpec { key, default, doc, .. } = option;
    let cells = [
        format!("`{key}`<br>`{}`<br>`--{}`", option.env(), option.flag()),
        format!("`{default}`"),
        format!("{doc}<br>Allowed: {}.", option.allowed()),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
