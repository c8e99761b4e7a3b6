"""Renders the chart of config/kubernetes by Helm's own library. No step asks a cluster or a network.

Arguments: the chart, the release, a list of values as JSON, and the wish: "documents" (a list of manifests for each of the values, or
the error), "text" (the same as text), or "complaints" (those of Helm's linter and of the schemas of Kubernetes)."""

import json
import sys

import helm_python
import yaml

# The oldest that the chart is for, and the newest that has schemas here.
VERSIONS = ("1.30", "1.37")


def text(chart, release, values):
    chart.validate_schema(values)
    rendered = chart.render(values, name=release, namespace="mail")
    # Trailing spaces come from the empty lines of a configuration.
    texts = ["".join(line.rstrip() + "\n" for line in one.strip().splitlines()) for _, one in sorted(rendered.items())]
    return "---\n".join(one for one in texts if one)


def documents(chart, release, values):
    return [document for document in yaml.safe_load_all(text(chart, release, values)) if document]


def complaints(chart, release, values):
    import kubernetes_validate

    report = helm_python.lint(sys.argv[1], values, strict=True)
    found = [message["error"] for message in report["messages"] if message["severity"] > 1] + report["errors"]
    for document in documents(chart, release, values):
        # The schema of an operator's resource is not among those of Kubernetes.
        for version in VERSIONS if document["kind"] != "PodMonitor" else ():
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except Exception as error:
                found.append(f"{document['kind']} for {version}: {getattr(error, 'message', error)}")
    return found


def answer(chart, release, values, wish):
    try:
        return {"made": wish(chart, release, values)}
    except helm_python.HelmError as error:
        return {"error": str(error)}


path, release, values, wish = sys.argv[1:]
chart = helm_python.Chart.load(path)
wish = {"documents": documents, "text": text, "complaints": complaints}[wish]
json.dump([answer(chart, release, each, wish) for each in json.loads(values)], sys.stdout)
