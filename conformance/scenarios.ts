/** What of the public conformance suite does not apply to a server of skills, and why. */

export const eras = ["2026-07-28", "2025-11-25"] as const

export type Era = typeof eras[number]

/** Those of the skills extension are in no revision's requirements. */
export const extension = ["sep-2640-skills-enumeration", "sep-2640-skills-manifest", "sep-2640-skills-directory"]

/**
 * Scenarios that read resources of fixed names, which no skill can have. They run through a forwarder that gives files of skills
 * those names, and changes nothing else.
 */
export const renamed: Readonly<Record<string, string>> = {
  "test://static-text": "skill://testing/static-text/references/text.txt",
  "test://static-binary": "skill://testing/static-binary/assets/pixel.png",
  "test://template/123/data": "skill://testing/template/data/123.json"
}

export const forwarded = ["resources-read-text", "resources-read-binary", "resources-templates-read"]

const asksClient = "a server of skills asks the client for nothing: no model, no form, no folders"
const tasks = "the extension for tasks: a skill answers the call that runs it"
const promptIsText = "the prompt of a skill is its instructions, a text"

/** By scenario, in every era that has it. */
export const notApplying: Readonly<Record<string, string>> = {
  "tools-call-sampling": asksClient,
  "tools-call-elicitation": asksClient,
  "elicitation-sep1034-defaults": asksClient,
  "elicitation-sep1330-enums": asksClient,
  "input-required-result-basic-elicitation": asksClient,
  "input-required-result-basic-sampling": asksClient,
  "input-required-result-basic-list-roots": asksClient,
  "input-required-result-request-state": asksClient,
  "input-required-result-multiple-input-requests": asksClient,
  "input-required-result-multi-round": asksClient,
  "input-required-result-missing-input-response": asksClient,
  "input-required-result-non-tool-request": asksClient,
  "input-required-result-result-type": asksClient,
  "input-required-result-tampered-state": asksClient,
  "input-required-result-capability-check": asksClient,
  "input-required-result-ignore-extra-params": asksClient,
  "tasks-lifecycle": tasks,
  "tasks-capability-negotiation": tasks,
  "tasks-wire-fields": tasks,
  "tasks-request-state-removal": tasks,
  "tasks-mrtr-input": tasks,
  "tasks-request-headers": tasks,
  "tasks-dispatch-and-envelope": tasks,
  "tasks-status-notifications": tasks,
  "tasks-required-task-error": tasks,
  "tasks-mrtr-composition": tasks,
  "prompts-get-embedded-resource": promptIsText,
  "prompts-get-with-image": promptIsText,
  "server-sse-polling": "recommends that a broken stream can be taken up again: here its end cancels the call"
}

/** Single checks of scenarios that apply. */
export const checksNotApplying: Readonly<Record<string, string>> = {
  "sep-2575-server-rejects-undeclared-capability": "no tool needs a capability of the client",
  "sep-2575-missing-capability-http-400": "no tool needs a capability of the client"
}

/** What a passed scenario does not say by itself. */
export const remarks: Readonly<Record<string, string>> = {
  "input-required-result-validate-input": "passes because the tool that it calls is not there"
}
