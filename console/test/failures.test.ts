import { TrainshedError } from "@trainshed/client";
import { describe, expect, it } from "vitest";
import { failureOf } from "../src/failures";

describe("a failure", () => {
  it("says what to do about a full quota, and offers no second try", () => {
    const found = failureOf(new TrainshedError("storage_limit_reached", "Your plan stores 10 bytes.", { status: 403 }));
    expect(found).toEqual({ title: "Your plan stores 10 bytes.", advice: "Delete sessions that you no longer need, or ask for a larger plan.", mayRetry: false });
  });

  it.each([
    ["forbidden", "Sign in as somebody who may, or ask whoever runs this deployment."],
    // Of a proxy or a network's filter, which answers with a page of its own.
    ["unexpected_answer", "Something on the way refuses it: try another network, without VPN or filter, or ask whoever runs this deployment."],
  ])("of a refusal by %s says who can help", (code, advice) => {
    expect(failureOf(new TrainshedError(code, "Refused.", { status: 403 }))).toEqual({ title: "Refused.", advice, mayRetry: false });
  });

  it("of an answer that is not the service's blames nobody on the way for what is not refused", () => {
    expect(failureOf(new TrainshedError("unexpected_answer", "No.", { status: 404 })).advice).toBe("");
  });

  it("says when a used-up quota begins anew", () => {
    const details = { resetsAt: "2026-12-01T00:00:00Z" };
    expect(failureOf(new TrainshedError("processing_limit_reached", "Used up.", { status: 403, details })).advice).toBe("It begins anew on December 1, 2026.");
  });

  it("of a CORS rule keeps the sentence that names the header, and says who can mend it", () => {
    const sentence = "http://storage.test does not send Access-Control-Allow-Origin for http://console.test.";
    const found = failureOf(new TrainshedError("cors", sentence));
    expect(found.title).toBe(sentence);
    expect(found.advice).toContain("for whoever runs this deployment");
    expect(found.mayRetry).toBe(true);
  });

  it("of the service gives the number that finds its log line", () => {
    const found = failureOf(new TrainshedError("internal_error", "Something failed.", { status: 500, requestId: "4bf9" }));
    expect(found.advice).toMatch(/Number: 4bf9$/);
  });

  it("of this page itself offers to go on", () => {
    expect(failureOf(new TypeError("x is undefined"))).toEqual({ title: "Something in this page went wrong.", advice: "Load the page again.", mayRetry: true });
  });

  it("of a name that is not allowed says so without the field's name", () => {
    const found = failureOf(new TrainshedError("invalid_field", "fileName: must have 1 to 230 characters", { status: 422, details: { field: "fileName" } }));
    expect(found.title).toBe("This file's name is not allowed: must have 1 to 230 characters.");
  });
});
