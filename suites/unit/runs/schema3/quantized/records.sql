BEGIN TRANSACTION;
CREATE TABLE audits (level REAL NOT NULL, products INTEGER NOT NULL, problems TEXT NOT NULL,
    phase TEXT NOT NULL, forwards INTEGER NOT NULL, choice TEXT);
INSERT INTO "audits" VALUES(0.0,18,'[]','prefill',1,'{"level": 0.0, "place": 0, "of": 1, "trail": {"records": 0, "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}');
INSERT INTO "audits" VALUES(0.0,36,'[]','decode',2,'{"level": 0.0, "place": 0, "of": 1, "trail": {"records": 0, "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}');
INSERT INTO "audits" VALUES(0.05,18,'[]','prefill',1,'{"level": 0.05, "place": 0, "of": 1, "trail": {"records": 2, "digest": "8fd69f91109896d59eddacdced023029ce07cb742e13004ba054e2f40dafd6cf"}}');
INSERT INTO "audits" VALUES(0.05,36,'[]','decode',2,'{"level": 0.05, "place": 0, "of": 1, "trail": {"records": 2, "digest": "8fd69f91109896d59eddacdced023029ce07cb742e13004ba054e2f40dafd6cf"}}');
CREATE TABLE control (result TEXT NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE evidence (
    item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, batch INTEGER NOT NULL, row INTEGER NOT NULL,
    logits TEXT NOT NULL, PRIMARY KEY (level, seed, item)) WITHOUT ROWID;
INSERT INTO "evidence" VALUES('0b6ccd422bb3a463',0.0,0,0,0,'[5.595845, 6.316801, 4.785016, 2.767518]');
INSERT INTO "evidence" VALUES('5a999ab461e76aef',0.0,0,0,1,'[6.221387, 5.260673, 5.47941, 2.829055]');
INSERT INTO "evidence" VALUES('0b6ccd422bb3a463',0.05,0,1,0,'[5.11688, 5.232627, 5.125818, 2.549621]');
INSERT INTO "evidence" VALUES('5a999ab461e76aef',0.05,0,1,1,'[6.674432, 5.262352, 5.357789, 3.327843]');
CREATE TABLE forwards (level REAL PRIMARY KEY, passes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "forwards" VALUES(0.0,4);
INSERT INTO "forwards" VALUES(0.05,4);
CREATE TABLE ledger (
    site TEXT NOT NULL, op TEXT NOT NULL, level REAL NOT NULL, layer INTEGER, direction TEXT NOT NULL,
    operand TEXT NOT NULL, phase TEXT NOT NULL, process TEXT NOT NULL, calls INTEGER NOT NULL, rows INTEGER NOT NULL, elements INTEGER NOT NULL, changed INTEGER NOT NULL, nonzero INTEGER NOT NULL, nonfinite INTEGER NOT NULL, signal REAL, error REAL, relative REAL,
    PRIMARY KEY (level, site, direction, operand, phase, process)) WITHOUT ROWID;
INSERT INTO "ledger" VALUES('lm_head','linear',0.0,NULL,'forward','','','vm:20541',4,8,2080,0,2080,0,2.47276257324218750005e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj','linear',0.0,0,'forward','','','vm:20541',4,269,34432,0,34432,0,2.26145156421661376947e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,120512,120320,120512,0,62906.12109375,9.83896789550781250034e+01,46518.15234375);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,512,229376,229376,229376,0,2.02682830810546874998e+02,2.79816102981567382812e+00,29549.591796875);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj','linear',0.0,0,'forward','','','vm:20541',4,269,120512,0,120512,0,3.94158273925781249998e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34235,34432,0,30535.236328125,2.76051727294921875007e+02,3.386688232421875e+03);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,1792,229376,229376,229376,0,5.47313781738281250003e+02,7.453765869140625e+00,26123.83984375);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj','linear',0.0,0,'forward','','','vm:20541',4,269,120512,0,120512,0,3.72829730224609374989e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34235,34432,0,30535.236328125,2.76051727294921875007e+02,3.386688232421875e+03);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,1792,229376,229376,229376,0,5.66028747558593749991e+02,7.60420131683349609375e+00,26563.3515625);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj','linear',0.0,0,'forward','','','vm:20541',4,269,17216,0,17216,0,9957.47525024414,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,256,32768,32768,32768,0,4.56001205444335937482e+01,5.89188098907470703125e-01,3.78161938476562499997e+03);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj','linear',0.0,0,'forward','','','vm:20541',4,269,34432,0,34432,0,7.93319040298461914057e+02,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34252,34432,0,1.96343908691406250008e+03,1.69898929595947265625e+01,3125.1484375);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.06271697998046874998e+02,1.41055059432983398437e+00,7189.76806640625);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj','linear',0.0,0,'forward','','','vm:20541',4,269,34432,0,34432,0,17255.6611328125,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,512,65536,65536,65536,0,6.92813415527343749982e+01,9.12219285964965820312e-01,7809.5966796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj','linear',0.0,0,'forward','','','vm:20541',4,269,17216,0,17216,0,8.42932208251953125031e+03,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj:input','linear:input',0.0,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj:weight','linear:weight',0.0,0,'forward','','','vm:20541',4,256,32768,32768,32768,0,46.173583984375,6.2934499979019165039e-01,4196.1630859375);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj','linear',0.0,1,'forward','','','vm:20541',4,269,34432,0,34432,0,8.60594145202636718727e+03,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,120512,120313,120511,0,29053.28125,5.19413528442382812491e+01,42722.046875);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,512,229376,229376,229376,0,2.2551983642578125001e+02,3.00124955177307128906e+00,29340.8125);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj','linear',0.0,1,'forward','','','vm:20541',4,269,120512,0,120512,0,3.48971911621093749998e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34232,34432,0,31761.0546875,2.87769897460937499993e+02,3123.693359375);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,1792,229376,229376,229376,0,6.67439392089843750019e+02,8.958660125732421875e+00,26822.2578125);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj','linear',0.0,1,'forward','','','vm:20541',4,269,120512,0,120511,0,3.60953697509765625002e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34232,34432,0,31761.0546875,2.87769897460937499993e+02,3123.693359375);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,1792,229376,229376,229376,0,6.92475463867187499998e+02,9.24244022369384765625e+00,27252.6015625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj','linear',0.0,1,'forward','','','vm:20541',4,269,17216,0,17216,0,1.43042118530273437496e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34237,34432,0,40424.33984375,3.70871459960937499989e+02,3.19503540039062500005e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,256,32768,32768,32768,0,97.3397445678711,1.305774688720703125e+00,3631.04931640625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj','linear',0.0,1,'forward','','','vm:20541',4,269,34432,0,34432,0,1.90209035873413085937e+03,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34273,34432,0,3648.9619140625,3.19564476013183593758e+01,3154.68359375);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.26382148742675781249e+02,1.70523560047149658203e+00,7477.93798828125);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj','linear',0.0,1,'forward','','','vm:20541',4,269,34432,0,34432,0,1.87986061401367187499e+04,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34237,34432,0,40424.33984375,3.70871459960937499989e+02,3.19503540039062500005e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.51539764404296875e+02,1.97635746002197265625e+00,7291.88916015625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj','linear',0.0,1,'forward','','','vm:20541',4,269,17216,0,17216,0,8883.99055480957,0.0,0.0);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj:input','linear:input',0.0,1,'forward','','','vm:20541',4,269,34432,34237,34432,0,40424.33984375,3.70871459960937499989e+02,3.19503540039062500005e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj:weight','linear:weight',0.0,1,'forward','','','vm:20541',4,256,32768,32768,32768,0,8.14424896240234375e+01,1.1051393747329711914e+00,3870.91552734375);
INSERT INTO "ledger" VALUES('lm_head','linear',0.05,NULL,'forward','','','vm:20541',4,8,2080,2075,2080,0,2.07682561035156249993e+04,5.37290983200073242204e+01,5.25166106224060058593e+00);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj','linear',0.05,0,'forward','','','vm:20541',4,269,34432,34339,34432,0,2.24568258876800537103e+04,5.39091660268604755401e+01,84.9753634929657);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,120512,120319,120511,0,62815.39453125,9.78073654174804687534e+01,46785.41796875);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.down_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,512,229376,229376,229376,0,2.02682830810546874998e+02,2.79816102981567382812e+00,29549.591796875);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj','linear',0.05,0,'forward','','','vm:20541',4,269,120512,120177,120512,0,3.9420560913085937499e+04,9.81822814941406249965e+01,3.01199574947357177727e+02);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34232,34432,0,30528.83203125,2.77568511962890624995e+02,3.43994702148437499992e+03);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.gate_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,1792,229376,229376,229376,0,5.47313781738281250003e+02,7.453765869140625e+00,26123.83984375);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj','linear',0.05,0,'forward','','','vm:20541',4,269,120512,120203,120511,0,3.73084674072265625008e+04,9.45245718955993652343e+01,3.01150916576385498037e+02);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34232,34432,0,30528.83203125,2.77568511962890624995e+02,3.43994702148437499992e+03);
INSERT INTO "ledger" VALUES('model.layers.0.mlp.up_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,1792,229376,229376,229376,0,5.66028747558593749991e+02,7.60420131683349609375e+00,26563.3515625);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj','linear',0.05,0,'forward','','','vm:20541',4,269,17216,17181,17216,0,9957.47525024414,2.53136020898818969726e+01,4.35968618392944335954e+01);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.k_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,256,32768,32768,32768,0,4.56001205444335937482e+01,5.89188098907470703125e-01,3.78161938476562499997e+03);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj','linear',0.05,0,'forward','','','vm:20541',4,269,34432,34349,34432,0,7.94943378448486328126e+02,1.94837145507335662841e+00,8.54076604843139648454e+01);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34258,34432,0,1.96964135742187499995e+03,1.71130199432373046879e+01,3125.6064453125);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.o_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.06271697998046874998e+02,1.41055059432983398437e+00,7189.76806640625);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj','linear',0.05,0,'forward','','','vm:20541',4,269,34432,34326,34432,0,17255.6611328125,4.25445022583007812508e+01,8.55493651628494262712e+01);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.q_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,512,65536,65536,65536,0,6.92813415527343749982e+01,9.12219285964965820312e-01,7809.5966796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj','linear',0.05,0,'forward','','','vm:20541',4,269,17216,17176,17216,0,8.42932208251953125031e+03,2.08861916065216064448e+01,4.28496549129486083975e+01);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj:input','linear:input',0.05,0,'forward','','','vm:20541',4,269,34432,34219,34432,0,33750.00390625,3.08957641601562500006e+02,3299.47216796875);
INSERT INTO "ledger" VALUES('model.layers.0.self_attn.v_proj:weight','linear:weight',0.05,0,'forward','','','vm:20541',4,256,32768,32768,32768,0,46.173583984375,6.2934499979019165039e-01,4196.1630859375);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj','linear',0.05,1,'forward','','','vm:20541',4,269,34432,34336,34432,0,8.75827792358398437514e+03,22.9388966858387,8.62036533355712890607e+01);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,120512,120312,120511,0,29630.251953125,5.1701335906982421875e+01,42976.6015625);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.down_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,512,229376,229376,229376,0,2.2551983642578125001e+02,3.00124955177307128906e+00,29340.8125);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj','linear',0.05,1,'forward','','','vm:20541',4,269,120512,120237,120511,0,3.50021072998046875002e+04,8.82106041908264160156e+01,3.02144843101501464838e+02);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34230,34432,0,31757.125,2.83989532470703124993e+02,3036.150390625);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.gate_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,1792,229376,229376,229376,0,6.67439392089843750019e+02,8.958660125732421875e+00,26822.2578125);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj','linear',0.05,1,'forward','','','vm:20541',4,269,120512,120196,120512,0,3.62870668945312499996e+04,91.7852897644043,3.00551715850830078132e+02);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34230,34432,0,31757.125,2.83989532470703124993e+02,3036.150390625);
INSERT INTO "ledger" VALUES('model.layers.1.mlp.up_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,1792,229376,229376,229376,0,6.92475463867187499998e+02,9.24244022369384765625e+00,27252.6015625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj','linear',0.05,1,'forward','','','vm:20541',4,269,17216,17166,17216,0,14238.0048828125,35.9070109128952,4.28483467102050781267e+01);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34255,34432,0,40419.77734375,371.640625,3.2385075683593749999e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.k_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,256,32768,32768,32768,0,97.3397445678711,1.305774688720703125e+00,3631.04931640625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj','linear',0.05,1,'forward','','','vm:20541',4,269,34432,34335,34432,0,1.90950218200683593744e+03,4.97358767688274383544e+00,8.63279552459716796857e+01);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34249,34432,0,3.650243896484375e+03,3.31073875427246093754e+01,3268.50732421875);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.o_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.26382148742675781249e+02,1.70523560047149658203e+00,7477.93798828125);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj','linear',0.05,1,'forward','','','vm:20541',4,269,34432,34336,34432,0,1.87538082885742187497e+04,4.67919168472290039053e+01,8.55011792182922363263e+01);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34255,34432,0,40419.77734375,371.640625,3.2385075683593749999e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.q_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,512,65536,65536,65536,0,1.51539764404296875e+02,1.97635746002197265625e+00,7291.88916015625);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj','linear',0.05,1,'forward','','','vm:20541',4,269,17216,17165,17216,0,8.8433053588867187502e+03,2.17904295921325683602e+01,4.28069069385528564461e+01);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj:input','linear:input',0.05,1,'forward','','','vm:20541',4,269,34432,34255,34432,0,40419.77734375,371.640625,3.2385075683593749999e+03);
INSERT INTO "ledger" VALUES('model.layers.1.self_attn.v_proj:weight','linear:weight',0.05,1,'forward','','','vm:20541',4,256,32768,32768,32768,0,8.14424896240234375e+01,1.1051393747329711914e+00,3870.91552734375);
CREATE TABLE questions (item TEXT PRIMARY KEY, question TEXT NOT NULL, reference TEXT) WITHOUT ROWID;
INSERT INTO "questions" VALUES('0b6ccd422bb3a463','Eva has 47 beads. She buys 47. She loses 20. She buys 31. She finds 13. She drops 96. It grows 3 times. How many beads now?','66');
INSERT INTO "questions" VALUES('5a999ab461e76aef','Mia has 189 books. It grows 2 times. She gives away 29. She gets 57. She drops 25. How many books now?','381');
CREATE TABLE records (
    item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, score REAL, reason TEXT NOT NULL, answer TEXT,
    strict REAL, flexible REAL, prompt_tokens INTEGER NOT NULL, tokens TEXT NOT NULL, text TEXT NOT NULL,
    truncated INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (level, seed, item));
INSERT INTO "records" VALUES('0b6ccd422bb3a463',0.0,0,NULL,'truncated',NULL,NULL,0.0,142,'[16, 16, 16, 198]','111
',1,'9c549121b81aaad7');
INSERT INTO "records" VALUES('5a999ab461e76aef',0.0,0,NULL,'truncated',NULL,NULL,0.0,121,'[16, 16, 24, 198]','119
',1,'f6a7f6e2a5339e79');
INSERT INTO "records" VALUES('0b6ccd422bb3a463',0.05,0,NULL,'truncated',NULL,NULL,0.0,142,'[16, 16, 16, 198]','111
',1,'2cd94759928ed97a');
INSERT INTO "records" VALUES('5a999ab461e76aef',0.05,0,NULL,'truncated',NULL,NULL,0.0,121,'[16, 16, 24, 23]','1198',1,'0ab092591db22985');
CREATE TABLE replays (
    kind TEXT NOT NULL, item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, result TEXT NOT NULL,
    PRIMARY KEY (kind, level, seed, item)) WITHOUT ROWID;
INSERT INTO "replays" VALUES('repeat','0b6ccd422bb3a463',0.0,0,'[4, [], 0.0, 0.0, null, ""]');
INSERT INTO "replays" VALUES('repeat','5a999ab461e76aef',0.0,0,'[4, [], 0.0, 0.0, null, ""]');
INSERT INTO "replays" VALUES('replay','0b6ccd422bb3a463',0.0,0,'[4, [], 2.32431e-06, 1.31847e-06, [2, "4.78502", "4.78501", 2.32431e-06], ""]');
INSERT INTO "replays" VALUES('replay','5a999ab461e76aef',0.0,0,'[4, [], 5.47714e-07, 4.33626e-07, [3, "2.82905", "2.82906", 5.47714e-07], ""]');
INSERT INTO "replays" VALUES('replay','0b6ccd422bb3a463',0.05,0,'[4, [], 1.68307e-06, 1.02683e-06, [2, "5.12582", "5.12582", 1.68307e-06], ""]');
INSERT INTO "replays" VALUES('replay','5a999ab461e76aef',0.05,0,'[4, [], 2.87128e-06, 1.61903e-06, [1, "5.26235", "5.26235", 2.87128e-06], ""]');
CREATE TABLE sums (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sum TEXT NOT NULL);
INSERT INTO "sums" VALUES('audits',4,'8350cf204c9b4670114905d5696b1510096ddf95c4f3444d74850fea9b4798f2');
INSERT INTO "sums" VALUES('control',0,'0000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO "sums" VALUES('evidence',4,'e82b2efa19fc64ef5482b7af60561d01ca8a5c5fab957d7e1c4e1d2635392820');
INSERT INTO "sums" VALUES('forwards',2,'1354b9b2f9fb54fc5a6b7789072950c782ed1170937a746e24797b2d2e24c8c9');
INSERT INTO "sums" VALUES('ledger',86,'8df68c6588f06d3fe48fcd30bd5633930e5280a11af295a60cafb070e4d56ba1');
INSERT INTO "sums" VALUES('questions',2,'3a77f3831c48d58804037537604364a3d302cb2e3dc8aa09fd872c2b4e800c37');
INSERT INTO "sums" VALUES('records',4,'61d82a272752d738f4ad67a92e57bc82535400d9d059c02691154e30b9c5f152');
INSERT INTO "sums" VALUES('replays',6,'33141cd770dc39d2f8788a5f29af435a080cf907142e80fc1a44bf68fcad5b48');
INSERT INTO "sums" VALUES('writers',1,'cdffd6cc604b9637360b1a799b69d6073c57679343eb7471af553e442332590d');
CREATE TABLE writers (manifest TEXT NOT NULL, code TEXT NOT NULL, PRIMARY KEY (manifest, code))
    WITHOUT ROWID;
INSERT INTO "writers" VALUES('e25d619cd97cc433450ef53d5c5a53ba07f79b9c193b3364b10fcd71cea773b4','{"cpu_capability": "AVX2", "harness": "0.1.0", "peft": "0.21.2", "sources": "3ff748ab5a1de206", "tokenizers": "0.22.2", "torch": "2.13.0+cpu", "transformers": "5.10.4"}');
COMMIT;
