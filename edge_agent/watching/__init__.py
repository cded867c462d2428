"""What `edge-agent watch` does: follows the agents on a broker, and shows what they publish.

Rules:

* everything that comes by MQTT is hostile: nothing of it is trusted to have a form or a size, and every text of it goes through
  `edge_agent.wording` on its way to a terminal;
* everything is bounded: nodes, routes, sensors, texts, and the work per second. What is left out is counted, and said;
* watching never changes what is watched: no message is sent, no session is kept, no share of an agents' pool is taken.
"""
