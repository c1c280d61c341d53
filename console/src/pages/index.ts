export { NewSessionPage } from "./new-session";
export { SessionPage } from "./session";
export { SessionsPage } from "./sessions";
