import { create, createFileRegistry, type DescMessage, type DescService } from '@bufbuild/protobuf';
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  MethodOptions_IdempotencyLevel,
} from '@bufbuild/protobuf/wkt';
import type { CallOptions } from '@connectrpc/connect';

// A service as protoc would have made it from
//   message Line { string text = 1; }
//   service Greeter {
//     rpc Say(Line) returns (Line);
//     rpc Look(Line) returns (Line) { option idempotency_level = NO_SIDE_EFFECTS; }
//     rpc Count(Line) returns (stream Line);
//   }

const line = { inputType: '.greet.v1.Line', outputType: '.greet.v1.Line' };
const registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      create(FileDescriptorProtoSchema, {
        name: 'greet.proto',
        package: 'greet.v1',
        syntax: 'proto3',
        messageType: [
          {
            name: 'Line',
            field: [
              {
                name: 'text',
                jsonName: 'text',
                number: 1,
                type: FieldDescriptorProto_Type.STRING,
                label: FieldDescriptorProto_Label.OPTIONAL,
              },
            ],
          },
        ],
        service: [
          {
            name: 'Greeter',
            method: [
              { name: 'Say', ...line },
              {
                name: 'Look',
                ...line,
                options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
              },
              { name: 'Count', ...line, serverStreaming: true },
            ],
          },
        ],
      }),
    ],
  }),
);

export const Greeter = registry.getService('greet.v1.Greeter') as DescService;
export const LineSchema = registry.getMessage('greet.v1.Line') as DescMessage;

export interface Line {
  text: string;
}

/** What `createClient(Greeter, …)` makes: the types that protoc would have written. */
export interface GreeterClient {
  say(line: Line, options?: CallOptions): Promise<Line>;
  look(line: Line, options?: CallOptions): Promise<Line>;
  count(line: Line, options?: CallOptions): AsyncIterable<Line>;
}
