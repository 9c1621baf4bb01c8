// Uses @grpc/grpc-js against the service of tests/integration/services/common/rpc/servers.py, and prints as JSON what
// came: `grpc_js_program.js ADDRESS`. Messages are bytes, so no stubs are needed.
const grpc = require("@grpc/grpc-js");

const bytes = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/test.Test/${name}`, requestStream, responseStream,
  requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes,
});
const Client = grpc.makeGenericClientConstructor({
  echo: method("Echo", false, false),
  fail: method("Fail", false, false),
  sleep: method("Sleep", false, false),
  stream: method("Stream", true, true),
  repeat: method("Repeat", false, true),
  collect: method("Collect", true, false),
}, "Test");

const client = new Client(process.argv[2], grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});
const soon = () => ({ deadline: Date.now() + 20000 });
const unary = (name, message, options = soon()) => new Promise((resolve) => {
  client[name](message, new grpc.Metadata(), options, (error, answer) => resolve({ error, answer }));
});
const all = (call) => new Promise((resolve) => {
  const answers = [];
  call.on("data", (answer) => answers.push(answer.toString()));
  call.on("error", (error) => resolve({ error, answers }));
  call.on("end", () => resolve({ answers }));
});

async function main() {
  const told = {};
  told.echo = (await unary("echo", Buffer.from("hello"))).answer.toString();
  const large = Buffer.alloc(3000000, 7);
  told.large = (await unary("echo", large)).answer.equals(large);
  told.many = (await Promise.all([...Array(500).keys()].map(async (number) =>
    (await unary("echo", Buffer.from(String(number)))).answer.toString() === String(number)))).every(Boolean);
  const failed = await unary("fail", Buffer.from(JSON.stringify(
    { code: "NOT_FOUND", details: "n\u00f6 %", trailing: [["a", "b"]] })));
  told.fail = [failed.error.code, failed.error.details, failed.error.metadata.get("a")[0]];
  told.deadline = (await unary("sleep", Buffer.from("10"), { deadline: Date.now() + 200 })).error.code;
  const stream = client.stream(new grpc.Metadata(), soon());
  const answered = all(stream);
  for (let number = 0; number < 200; number++) stream.write(Buffer.from(String(number)));
  stream.end();
  told.stream = (await answered).answers.length;
  const cancelled = client.sleep(Buffer.from("10"), new grpc.Metadata(), soon(), (error) => {
    told.cancelled = error.code;
    told.after = null;
    unary("echo", Buffer.from("still here")).then(({ answer }) => {
      told.after = answer.toString();
      console.log(JSON.stringify(told));
      client.close();
    });
  });
  setTimeout(() => cancelled.cancel(), 100);
}

main();
